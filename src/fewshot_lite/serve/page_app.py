"""The ASGI application of the page, with all of the API."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fewshot_lite.serve.app import make_app
from fewshot_lite.serve.changing import MODEL_FILE, Changing
from fewshot_lite.serve.classifying import Classifying
from fewshot_lite.serve.guard import App, Limits
from fewshot_lite.serve.replies import Reply
from fewshot_lite.serve.session import Session

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
    return make_app(routes, limits, pages=_pages())


def _pages() -> dict[str, Reply]:
    """The page's files by their addresses, read once: no address names a file on the disk."""
    folder = Path(__file__).parent / "page"
    found = {}
    for path in sorted(folder.iterdir()):
        if kind := _KINDS.get(path.suffix):
            address = "/" if path.name == "index.html" else f"/{path.name}"
            found[address] = Reply(path.read_bytes(), f"{kind}; charset=utf-8")
    return found
