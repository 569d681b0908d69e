"""One line instead of whatever a parser of somebody's format raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from fewshot_lite.core.errors import FewshotError


def need_extra(package: str) -> Any:
    """Import what the extra `vtab` brings.

    Raises:
        FewshotError: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError:
        raise FewshotError(
            f"Reading this file needs {package.partition('.')[0]}: pip install 'fewshot-lite[vtab]'"
        ) from None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside becomes one line that names the file.

    Raises:
        FewshotError: anything was raised.
    """
    try:
        yield
    except FewshotError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise FewshotError(f"{path}: cannot be read ({reason}). Fetch it again.") from None
    except Exception as error:  # scipy's, numpy's and zip's parsers raise whatever they like
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise FewshotError(
            f"{path}: damaged, or not the published file ({reason}). Fetch it again."
        ) from None
