"""The ASGI applications: the page with all of the API, and the API of a model alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.jsons import dumps
from fewshot_lite.personal.classifier import PhotoClassifier
from fewshot_lite.serve.changing import MODEL_FILE, Changing
from fewshot_lite.serve.classifying import Classifying
from fewshot_lite.serve.guard import App, Guard, Limits
from fewshot_lite.serve.replies import Failed, Reply, error_reply, failing
from fewshot_lite.serve.routes import Handler, Route, openapi
from fewshot_lite.serve.session import Session

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

#: Bytes of a personal model that is opened.
_LARGEST_MODEL = 500_000_000
_KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


def page_app(session: Session, limits: Limits | None = None) -> App:
    """The page on a session, and all of the API."""
    limits = limits or Limits()
    limits = replace(limits, larger={MODEL_FILE: _LARGEST_MODEL, **limits.larger})
    routes = [*Classifying(session.require_model).routes(), *Changing(session).routes()]
    return _app(routes, limits, pages=_pages())


def api_app(model: PhotoClassifier, limits: Limits | None = None) -> App:
    """The API of a model alone: it classifies, and nothing can be changed."""
    return _app(Classifying(lambda: model).routes(), limits or Limits())


def check_web() -> None:
    """Refuse to begin where the extra `web` is not installed.

    Raises:
        UsageError: it is not.
    """
    from importlib.util import find_spec

    for package in ("starlette", "uvicorn", "python_multipart"):
        if find_spec(package) is None:
            raise UsageError(
                f"serve: needs {package}. Install the extra: pip install 'fewshot-lite[web]'."
            )


def _app(routes: Sequence[Route], limits: Limits, pages: dict[str, Reply] | None = None) -> App:
    check_web()
    from starlette.applications import Starlette
    from starlette.routing import Route as Path_

    described = Reply(
        dumps(openapi(routes, token=limits.token is not None)).encode(), "application/json"
    )
    fixed = {"/openapi.json": described, **(pages or {})}
    table = [
        Path_(route.path, _endpoint(route.handler), methods=[route.method]) for route in routes
    ]
    table += [
        Path_(path, _endpoint(_constant(reply)), methods=["GET"]) for path, reply in fixed.items()
    ]

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
    from starlette.responses import Response

    return Response(reply.body, reply.status, dict(reply.headers), reply.kind)


def _pages() -> dict[str, Reply]:
    """The page's files by their addresses, read once: no address names a file on the disk."""
    folder = Path(__file__).parent / "page"
    found = {}
    for path in sorted(folder.iterdir()):
        if kind := _KINDS.get(path.suffix):
            address = "/" if path.name == "index.html" else f"/{path.name}"
            found[address] = Reply(path.read_bytes(), f"{kind}; charset=utf-8")
    return found
