"""The ASGI application of a list of routes, and that of a model alone; neither imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fewshot_lite.core.jsons import dumps
from fewshot_lite.serve.classifying import Classifying
from fewshot_lite.serve.growing import Growing, GrowingModel
from fewshot_lite.serve.guard import App, Guard, Limits
from fewshot_lite.serve.replies import Failed, Reply, error_reply, failing
from fewshot_lite.serve.routes import Handler, Route, openapi

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
    table = [
        Entry(route.path, _endpoint(route.handler), methods=[route.method]) for route in routes
    ]
    for path, reply in fixed.items():
        table.append(Entry(path, _endpoint(_constant(reply)), methods=["GET"]))

    async def not_found(request: Request, error: Exception) -> Response:
        return _response(error_reply(404, "There is nothing at this address."))

    async def wrong_method(request: Request, error: Exception) -> Response:
        return _response(error_reply(405, "This address does not take this method."))

    return Guard(
        Starlette(routes=table, exception_handlers={404: not_found, 405: wrong_method}), limits
    )


def _constant(reply: Reply) -> Handler:
    async def handler(request: Request) -> Reply:
        return reply

    return handler


def _endpoint(handler: Handler) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        try:
            with failing():
                return _response(await handler(request))
        except Failed as failed:
            return _response(failed.reply)

    return endpoint


def _response(reply: Reply) -> Response:
    from starlette.responses import Response, StreamingResponse

    if reply.pieces is not None:
        return StreamingResponse(reply.pieces, reply.status, dict(reply.headers), reply.kind)
    return Response(reply.body, reply.status, dict(reply.headers), reply.kind)
