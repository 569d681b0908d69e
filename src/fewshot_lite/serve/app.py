"""The ASGI application of a list of routes, and that of a model alone; neither imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def api_app(model: GrowingModel, limits: Limits | None = None) -> App:
    """The API of a model alone: it classifies, and photos can be added to it."""
    routes = [*Classifying(lambda: model.model).routes(), *Growing(model).routes()]
    return make_app(routes, limits or Limits())


def make_app(routes: Sequence[Route], limits: Limits, pages: dict[str, Reply] | None = None) -> App:
    """Routes behind a guard, with their description at /openapi.json.

    Args:
        routes: of the API.
        limits: what is let in.
        pages: answers that are always the same, by their addresses.
    """
    from starlette.applications import Starlette
    from starlette.routing import Route as Entry

    description = dumps(openapi(routes, token=limits.token is not None)).encode()
    fixed = {"/openapi.json": Reply(description, "application/json"), **(pages or {})}
    table = [Entry(route.path, _endpoint(route), methods=[route.method]) for route in routes]
    table += [Entry(path, _always(reply), methods=["GET"]) for path, reply in fixed.items()]
    nothing = error_reply(404, "There is nothing at this address.")
    wrong_method = error_reply(405, "This address does not take this method.")
    handlers: Any = {404: _always(nothing), 405: _always(wrong_method)}
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
