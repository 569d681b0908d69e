"""The replies of handlers. Errors are one line in JSON, never a traceback."""

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
    """The reply to a request."""

    body: bytes
    kind: str
    """The media type."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: Iterator[bytes] | None = None
    """The pieces of a streamed body, in place of `body`."""


def json_reply(value: Any, status: int = 200) -> Reply:
    """Return a reply in JSON, formatted as by the command line."""
    return Reply(dumps(value).encode(), "application/json", status)


def error_reply(status: int, message: str, **headers: str) -> Reply:
    """Return a reply with an error message of one line."""
    body = dumps({"error": visible(message)}).encode()
    return Reply(body, "application/json", status, headers)


def download(body: bytes | Iterator[bytes], kind: str, name: str) -> Reply:
    """Return a reply with a file, or its pieces, to be saved under an ASCII name."""
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    if isinstance(body, bytes):
        return Reply(body, kind, headers=headers)
    return Reply(b"", kind, headers=headers, pieces=body)


def failure(error: Exception) -> Reply:
    """Return the reply to a request whose handler raised an error."""
    if isinstance(error, FewshotError):
        status = getattr(error, "status", 400 if isinstance(error, UsageError) else 422)
        return error_reply(status, str(error))
    name = type(error).__name__  # a bug: its message is printed here and not sent
    sys.stderr.write(f"Error: a request failed ({name}: {visible(str(error))[:300]}).\n")
    return error_reply(500, f"The program failed ({name}).")
