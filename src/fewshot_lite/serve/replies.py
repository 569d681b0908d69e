"""What handlers answer with, and how errors are told: one line in JSON, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.jsons import dumps
from fewshot_lite.core.text import visible
from fewshot_lite.serve.errors import Conflict, NotFound


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


class Failed(Exception):
    """An error that has its reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


@contextmanager
def failing() -> Iterator[None]:
    """While entered, whatever is raised comes out as `Failed`."""
    try:
        yield
    except Failed:
        raise
    except FewshotError as error:
        raise Failed(error_reply(_status(error), str(error))) from None
    except Exception as error:  # a fault of the program: named here, and no more told outside
        name = type(error).__name__
        sys.stderr.write(f"Error: a request failed ({name}: {visible(str(error))[:300]}).\n")
        raise Failed(error_reply(500, f"The program failed ({name}).")) from None


def _status(error: FewshotError) -> int:
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, Conflict):
        return 409
    return 400 if isinstance(error, UsageError) else 422
