"""What handlers answer with, and how errors are told: one line in JSON, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.jsons import dumps
from fewshot_lite.core.text import visible


@dataclass(frozen=True)
class Reply:
    """An answer to one request."""

    body: bytes
    kind: str
    """Its media type."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: Iterator[bytes] | None = None
    """What follows the body, as it is made."""


def json_reply(value: Any, status: int = 200) -> Reply:
    """JSON, as the command line writes it."""
    return Reply(dumps(value).encode(), "application/json", status)


def error_reply(status: int, message: str, **headers: str) -> Reply:
    """An error, in one line."""
    body = dumps({"error": visible(message)}).encode()
    return Reply(body, "application/json", status, headers)


def download(body: bytes | Iterator[bytes], kind: str, name: str) -> Reply:
    """A file, or its pieces, to be saved under a name of ASCII letters."""
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    if isinstance(body, bytes):
        return Reply(body, kind, headers=headers)
    return Reply(b"", kind, headers=headers, pieces=body)


def failure(error: Exception) -> Reply:
    """The answer to a request whose handler raised an error."""
    if isinstance(error, FewshotError):
        status = getattr(error, "status", 400 if isinstance(error, UsageError) else 422)
        return error_reply(status, str(error))
    name = type(error).__name__  # a fault of the program: told here, and no more of it outside
    sys.stderr.write(f"Error: a request failed ({name}: {visible(str(error))[:300]}).\n")
    return error_reply(500, f"The program failed ({name}).")
