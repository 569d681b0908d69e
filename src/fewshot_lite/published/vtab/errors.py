"""One-line errors for missing packages and for files that parsers cannot read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from fewshot_lite.core.errors import FewshotError


def need_extra(package: str) -> Any:
    """Import a package of the extra `vtab`; raise FewshotError if it is not installed."""
    try:
        return import_module(package)
    except ImportError:
        raise FewshotError(
            f"Reading this file needs {package.partition('.')[0]}: pip install 'fewshot-lite[vtab]'"
        ) from None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any error within the context into a FewshotError of one line that names the file."""
    try:
        yield
    except FewshotError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise FewshotError(f"{path}: cannot be read ({reason}). Fetch it again.") from None
    except Exception as error:  # the parsers of scipy, numpy and zip raise all kinds
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise FewshotError(
            f"{path}: damaged, or not the published file ({reason}). Fetch it again."
        ) from None
