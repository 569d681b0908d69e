"""The table of routes: what Starlette serves and what OpenAPI describes are made from one list."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fewshot_lite import __version__
from fewshot_lite.serve.replies import Reply

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Reply]])
Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_BINARY: Schema = {"type": "string", "format": "binary"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}

#: Bodies of requests, by the kinds that `Route.takes` names.
_BODIES: dict[str, dict[str, Schema]] = {
    "photos": {
        "image/*": _BINARY,
        "application/octet-stream": _BINARY,
        "multipart/form-data": {
            "type": "object",
            "properties": {"photo": {"type": "array", "items": _BINARY}},
        },
    },
    "file": {"application/octet-stream": _BINARY},
}
_SCHEMAS: dict[str, Schema] = {
    "Error": {"type": "object", "properties": {"error": _TEXT}, "required": ["error"]},
    "Answer": {
        "type": "object",
        "description": "One photo's answer, as `fewshot-lite classify --json` gives it.",
        "properties": {
            "path": {**_TEXT_OR_NULL, "description": "The name that the photo was sent with."},
            "label": {
                **_TEXT_OR_NULL,
                "description": "The likeliest class, or `unknown`; null if it was not read.",
            },
            "probability": _NUMBER_OR_NULL,
            "strangeness": _NUMBER_OR_NULL,
            "labels": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"name": _TEXT, "probability": _NUMBER},
                },
            },
            "problem": {**_TEXT_OR_NULL, "description": "Why the photo was not read."},
        },
    },
    "Answers": {"type": "array", "items": {"$ref": "#/components/schemas/Answer"}},
    "Object": {"type": "object"},
}


@dataclass(frozen=True)
class Query:
    """A parameter in the address."""

    name: str
    about: str
    kind: Schema


@dataclass(frozen=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    """With parameters in braces, as OpenAPI has them."""
    handler: Callable[..., Awaitable[Reply]]
    """The first paragraph of its docstring is the route's summary."""
    takes: str | tuple[str, ...] = ()
    """"photos", "file", or the names of a JSON object's members."""
    gives: str = "Object"
    """A schema's name, or a media type."""
    query: tuple[Query, ...] = ()
    refuses: tuple[int, ...] = ()
    """Statuses of errors that are this route's own."""


def route(
    method: str, path: str, takes: str | tuple[str, ...] = (), **more: Any
) -> Callable[[Handler], Handler]:
    """A decorator that makes a method of `Handlers` a route; the arguments are those of `Route`."""

    def mark(handler: Handler) -> Handler:
        vars(handler)["route"] = Route(method, path, handler, takes, **more)
        return handler

    return mark


class Handlers:
    """An object whose methods answer requests."""

    def routes(self) -> list[Route]:
        """What it answers to, in the order of its methods."""
        marked = {name: getattr(method, "route", None) for name, method in vars(type(self)).items()}
        return [
            replace(found, handler=getattr(self, name)) for name, found in marked.items() if found
        ]


def openapi(routes: Sequence[Route], *, token: bool) -> dict[str, Any]:
    """The description of an API, OpenAPI 3.1.

    Args:
        routes: all of them.
        token: one is needed.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "fewshot-lite",
            "version": __version__,
            "description": "A person's own classes of photos: classify them, and change them.",
        },
        "paths": paths,
        "components": {"schemas": _SCHEMAS},
    }
    if token:
        scheme = {"type": "http", "scheme": "bearer"}
        found["components"]["securitySchemes"] = {"token": scheme}
        found["security"] = [{"token": []}]
    return found


def _operation(route: Route) -> dict[str, Any]:
    words = re.sub(r"[^a-z]+", "-", f"{route.method} {route.path}".lower()).strip("-")
    summary = (inspect.getdoc(route.handler) or "").partition("\n\n")[0].replace("\n", " ")
    found: dict[str, Any] = {"operationId": words, "summary": summary}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    parameters += [
        {"name": q.name, "in": "query", "description": q.about, "schema": q.kind}
        for q in route.query
    ]
    if parameters:
        found["parameters"] = parameters
    if isinstance(route.takes, str):
        found["requestBody"] = {"required": True, **_content(_BODIES[route.takes])}
    elif route.takes:
        members = {"type": "object", "properties": {name: {} for name in route.takes}}
        found["requestBody"] = {"required": True, **_content({"application/json": members})}
    given = {route.gives: _BINARY} if "/" in route.gives else _named(route.gives)
    found["responses"] = {"200": {"description": "Done.", **_content(given)}}
    usual = (413, 503) if route.method != "GET" else ()
    for status in sorted({*route.refuses, *usual}):
        error = {"description": _STATUSES[status], **_content(_named("Error"))}
        found["responses"][str(status)] = error
    return found


def _named(schema: str) -> dict[str, Schema]:
    return {"application/json": {"$ref": f"#/components/schemas/{schema}"}}


def _content(by_kind: dict[str, Schema]) -> dict[str, Any]:
    return {"content": {kind: {"schema": schema} for kind, schema in by_kind.items()}}


_STATUSES = {
    400: "Something in the request cannot be.",
    404: "There is no such class or photo.",
    409: "It does not go with how things are, e.g. there is no model yet.",
    413: "The body is too large.",
    422: "It could not be done; for photos: none could be read.",
    503: "Too many requests at a time; try again after the seconds in Retry-After.",
}
