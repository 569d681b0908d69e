"""One-line errors for files whose contents do not belong together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from fewshot_lite.core.errors import FewshotError, UsageError

#: What building a model from a file's contents raises if they do not belong together.
DAMAGE = (AttributeError, KeyError, TypeError, ValueError, RuntimeError, UsageError)


@contextlib.contextmanager
def damage_as(headline: str) -> Iterator[None]:
    """While entered, a model is built from a file's contents.

    Args:
        headline: names the file and says that it is damaged.

    Raises:
        FewshotError: the headline with what is wrong, for any `DAMAGE`.
    """
    try:
        yield
    except DAMAGE as error:
        raise FewshotError(f"{headline} ({_what_is_damaged(error)}).") from None


def _what_is_damaged(error: Exception) -> str:
    """One line for a `DAMAGE` error; torch puts a headline above the first thing that is wrong."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)].rstrip(".") if lines else type(error).__name__
