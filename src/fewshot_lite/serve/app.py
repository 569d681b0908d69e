"""The ASGI applications: the page with its API, and the API of a model, which needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_lite.core.jsons import dumps
from fewshot_lite.serve.classifying import Classifying
from fewshot_lite.serve.growing import Growing, GrowingModel
from fewshot_lite.serve.guard import App, Guard, Limits
from fewshot_lite.serve.replies import Reply, error_reply, failure
from fewshot_lite.serve.routes import Route, openapi

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from fewshot_lite.serve.session import Session

#: The most bytes of a personal model that is opened.
_LARGEST_MODEL = 500_000_000
_KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


def api_app(model: GrowingModel, limits: Limits | None = None) -> App:
    """Return the API of a model, which classifies and takes new photos."""
    routes = [*Classifying(lambda: model.model).routes(), *Growing(model).routes()]
    return _app(routes, limits or Limits(), {})


def page_app(session: Session, limits: Limits | None = None) -> App:
    """Return the page of a session, with its API."""
    from fewshot_lite.serve.changing import MODEL_FILE, Changing

    limits = limits or Limits()
    limits = replace(limits, larger={MODEL_FILE: _LARGEST_MODEL, **limits.larger})
    routes = [*Classifying(session.require_model).routes(), *Changing(session).routes()]
    pages = {}
    for path in sorted((Path(__file__).parent / "page").iterdir()):  # no request opens files
        if kind := _KINDS.get(path.suffix):
            address = "/" if path.name == "index.html" else f"/{path.name}"
            pages[address] = Reply(path.read_bytes(), f"{kind}; charset=utf-8")
    return _app(routes, limits, pages)


def _app(routes: Sequence[Route], limits: Limits, pages: Mapping[str, Reply]) -> App:
    """Return routes, fixed replies by path and /openapi.json, behind a guard."""
    from starlette.applications import Starlette
    from starlette.routing import Route as Entry

    description = dumps(openapi(routes, token=limits.token is not None)).encode()
    fixed = {"/openapi.json": Reply(description, "application/json"), **pages}
    table = [Entry(route.path, _endpoint(route), methods=[route.method]) for route in routes]
    table += [Entry(path, _always(reply), methods=["GET"]) for path, reply in fixed.items()]
    not_found = error_reply(404, "There is nothing at this address.")
    wrong_method = error_reply(405, "This address does not take this method.")
    handlers: Any = {404: _always(not_found), 405: _always(wrong_method)}
    return Guard(Starlette(routes=table, exception_handlers=handlers), limits)


def _always(reply: Reply) -> Callable[..., object]:
    async def endpoint(request: Request, error: Exception | None = None) -> Response:
        return _response(reply)

    return endpoint


def _endpoint(route: Route) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        try:
            return _response(await route.handler(request))
        except Exception as error:
            return _response(failure(error))

    return endpoint


def _response(reply: Reply) -> Response:
    from starlette.responses import Response, StreamingResponse

    if reply.pieces is not None:
        return StreamingResponse(reply.pieces, reply.status, dict(reply.headers), reply.kind)
    return Response(reply.body, reply.status, dict(reply.headers), reply.kind)
