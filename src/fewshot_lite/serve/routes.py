"""The table of routes: what Starlette serves and what OpenAPI describes are made from one list."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fewshot_lite import __version__
from fewshot_lite.serve.replies import Reply

if TYPE_CHECKING:
    from starlette.requests import Request

Handler = Callable[["Request"], Awaitable[Reply]]
Schema = dict[str, Any]

#: Bodies of requests, by the kinds that `Route.takes` names.
_PHOTOS: Schema = {
    "required": True,
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "photo": {"type": "array", "items": {"type": "string", "format": "binary"}}
                },
            }
        },
    },
}
_FILE: Schema = {
    "required": True,
    "content": {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_OR_NULL: dict[str, Schema] = {
    "text": {"type": ["string", "null"]},
    "number": {"type": ["number", "null"]},
}
_SCHEMAS: dict[str, Schema] = {
    "Error": {"type": "object", "properties": {"error": _TEXT}, "required": ["error"]},
    "Answer": {
        "type": "object",
        "description": "One photo's answer, as `fewshot-lite classify --json` gives it.",
        "properties": {
            "path": {**_OR_NULL["text"], "description": "The name that the photo was sent with."},
            "label": {
                **_OR_NULL["text"],
                "description": "The likeliest class, or `unknown`; null if it was not read.",
            },
            "probability": _OR_NULL["number"],
            "strangeness": _OR_NULL["number"],
            "labels": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"name": _TEXT, "probability": _NUMBER},
                },
            },
            "problem": {**_OR_NULL["text"], "description": "Why the photo was not read."},
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
    handler: Handler
    about: str
    takes: str | tuple[str, ...] = ()
    """"photos", "file", or the names of a JSON object's members."""
    gives: str = "Object"
    """A schema's name, or a media type."""
    query: tuple[Query, ...] = ()
    refuses: tuple[int, ...] = ()
    """Statuses of errors that are this route's own."""


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
    found: dict[str, Any] = {"operationId": words, "summary": route.about}
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
    if route.takes:
        found["requestBody"] = _body(route.takes)
    if "/" in route.gives:
        content: Schema = {route.gives: {"schema": {"type": "string", "format": "binary"}}}
    else:
        reference = {"$ref": f"#/components/schemas/{route.gives}"}
        content = {"application/json": {"schema": reference}}
    found["responses"] = {"200": {"description": "Done.", "content": content}}
    usual = (413, 503) if route.method != "GET" else ()
    for status in sorted({*route.refuses, *usual}):
        error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
        found["responses"][str(status)] = {"description": _STATUSES[status], "content": error}
    return found


def _body(takes: str | tuple[str, ...]) -> Schema:
    if takes == "photos":
        return _PHOTOS
    if takes == "file":
        return _FILE
    schema = {"type": "object", "properties": {name: {} for name in takes}}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


_STATUSES = {
    400: "Something in the request cannot be.",
    404: "There is no such class or photo.",
    409: "It does not go with how things are, e.g. there is no model yet.",
    413: "The body is too large.",
    422: "It could not be done; for photos: none could be read.",
    503: "Too many requests at a time; try again after the seconds in Retry-After.",
}
