"""Parsing of requests: photos, JSON bodies, query parameters."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from fewshot_lite.core import jsons
from fewshot_lite.core.errors import UsageError
from fewshot_lite.serve.uploads import Upload

if TYPE_CHECKING:
    from starlette.requests import Request

# Errors in forms are reported to the client, not logged on the server's terminal.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())

#: The most photos and other fields of a form.
_MOST_PHOTOS, _MOST_FIELDS = 256, 16


async def photos_of(request: Request) -> list[Upload]:
    """Return the photos of a request: its body, or the files of a form.

    Raises:
        UsageError: a form that cannot be read, or has no file.
    """
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/"):
        return [Upload.named(request.query_params.get("name"), await request.body())]
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException

    try:
        async with request.form(max_files=_MOST_PHOTOS, max_fields=_MOST_FIELDS) as form:
            files = [item for _, item in form.multi_items() if isinstance(item, UploadFile)]
            if not files:
                raise UsageError("The form has no file. Send photos as files of the form.")
            return [Upload.named(file.filename, await file.read()) for file in files]
    except HTTPException as error:
        raise UsageError(f"The form cannot be read ({error.detail}).") from None


async def members_of(request: Request, *names: str) -> list[Any]:
    """Return members of a JSON object, None for missing ones.

    Raises:
        UsageError: no JSON object, or one with other members.
    """
    try:
        members = jsons.loads(await request.body())
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise UsageError(f"Send a JSON object with {', '.join(names)}.")
    if others := [name for name in members if name not in names]:
        raise UsageError(f"{str(others[0])[:40]!r}: not known. There is {', '.join(names)}.")
    return [members.get(name) for name in names]


def text(value: Any, name: str) -> str:
    """Return a value that must be a text; else raise UsageError."""
    if not isinstance(value, str):
        raise UsageError(f"{name}: give a text.")
    return value


def numbers(value: Any) -> list[int]:
    """Return a value that must be a list of one whole number or more; else raise UsageError."""
    if not value or not isinstance(value, list) or not all(type(item) is int for item in value):
        raise UsageError("numbers: give a list of one whole number or more.")
    return value


def top_of(request: Request) -> int:
    """Return the query parameter `top`, the number of class names in an answer."""
    top = request.query_params.get("top", "3")
    if not (top.isascii() and top.isdigit() and 1 <= int(top[:9]) <= 10_000):
        raise UsageError(f"top={top[:20]!r}: give a whole number from 1.")
    return int(top[:9])


def reject_of(request: Request) -> float | None:
    """Return the query parameter `reject`, the accepted share of rejected photos; None if off."""
    reject = request.query_params.get("reject", "0.05")
    if reject == "off":
        return None
    try:
        share = float(reject)
    except ValueError:
        share = math.nan
    if not 0 <= share < 1:
        raise UsageError(f"reject={reject[:20]!r}: give a share from 0 to below 1, or off.")
    return share
