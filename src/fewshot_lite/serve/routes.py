"""Declaration of routes, from which the Starlette application and its OpenAPI document are made."""

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

#: The request bodies that `Route.takes` names, by media type.
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
            "adapted_to": {
                "type": "boolean",
                "description": "Whether the model was adapted to this photo.",
            },
            "frames": {**_NUMBER_OR_NULL, "description": "The frames classified of a video."},
            "time_line": {
                "type": ["array", "null"],
                "description": "The answers for moments of a video.",
            },
        },
    },
    "Answers": {"type": "array", "items": {"$ref": "#/components/schemas/Answer"}},
    "Object": {"type": "object"},
}


@dataclass(frozen=True)
class Query:
    """A query parameter."""

    name: str
    about: str
    kind: Schema


@dataclass(frozen=True)
class Route:
    """A method of a path, and its handler."""

    method: str
    path: str
    """The path, with parameters in braces."""
    handler: Callable[..., Awaitable[Reply]]
    """The first paragraph of its docstring is the route's summary."""
    takes: str | tuple[str, ...] = ()
    """The request body: "photos", "file", or the names of a JSON object's members."""
    gives: str = "Object"
    """The response: a schema's name, or a media type."""
    query: tuple[Query, ...] = ()
    refuses: tuple[int, ...] = ()
    """Error statuses besides those that all routes have."""


def route(
    method: str, path: str, takes: str | tuple[str, ...] = (), **more: Any
) -> Callable[[Handler], Handler]:
    """Return a decorator that makes a method of `Handlers` a route; for arguments see `Route`."""

    def mark(handler: Handler) -> Handler:
        vars(handler)["route"] = Route(method, path, handler, takes, **more)
        return handler

    return mark


class Handlers:
    """A base class of objects whose methods handle requests."""

    def routes(self) -> list[Route]:
        """Return the routes of its methods, in their order."""
        marked = {name: getattr(method, "route", None) for name, method in vars(type(self)).items()}
        return [
            replace(route, handler=getattr(self, name)) for name, route in marked.items() if route
        ]


def openapi(routes: Sequence[Route], *, token: bool) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of routes; `token` is whether requests need one."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    document: dict[str, Any] = {
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
        document["components"]["securitySchemes"] = {"token": scheme}
        document["security"] = [{"token": []}]
    return document


def _operation(route: Route) -> dict[str, Any]:
    name = re.sub(r"[^a-z]+", "-", f"{route.method} {route.path}".lower()).strip("-")
    summary = (inspect.getdoc(route.handler) or "").partition("\n\n")[0].replace("\n", " ")
    operation: dict[str, Any] = {"operationId": name, "summary": summary}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    parameters += [
        {"name": q.name, "in": "query", "description": q.about, "schema": q.kind}
        for q in route.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if isinstance(route.takes, str):
        operation["requestBody"] = {"required": True, **_content(_BODIES[route.takes])}
    elif route.takes:
        members = {"type": "object", "properties": {name: {} for name in route.takes}}
        operation["requestBody"] = {"required": True, **_content({"application/json": members})}
    result = {route.gives: _BINARY} if "/" in route.gives else _json(route.gives)
    operation["responses"] = {"200": {"description": "Done.", **_content(result)}}
    usual = (413, 503) if route.method != "GET" else ()
    for status in sorted({*route.refuses, *usual}):
        error = {"description": _STATUSES[status], **_content(_json("Error"))}
        operation["responses"][str(status)] = error
    return operation


def _json(schema: str) -> dict[str, Schema]:
    return {"application/json": {"$ref": f"#/components/schemas/{schema}"}}


def _content(by_kind: dict[str, Schema]) -> dict[str, Any]:
    return {"content": {kind: {"schema": schema} for kind, schema in by_kind.items()}}


_STATUSES = {
    400: "The request is not valid.",
    404: "There is no such class or photo.",
    409: "Not possible at present, e.g. because there is no model yet.",
    413: "The body is too large.",
    422: "It failed; for photos: none could be read.",
    503: "Too many requests at a time; try again after the seconds in Retry-After.",
}
