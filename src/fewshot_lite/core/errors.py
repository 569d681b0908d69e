"""Error classes: a message is one line that names the file or flag at fault and a remedy.

Messages are written for the command line (`--force`). Outside of it, flags are replaced by the
corresponding Python arguments (`force=True`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten

#: Flags whose Python arguments have another name, or are switches.
_ARGUMENTS = {"model": "path", "class": "name"} | {
    switch: f"{switch}=True" for switch in ("force", "strict", "link", "all-frames")
}
#: Quoted commands, which stay as they are, and flags outside of them.
_FLAG = re.compile(
    r"`[^`]*`|(?:pip install|meta-train|pretrain|torchrun) --[\w-]+|(?<![\w/-])--([a-z][a-z0-9-]*)"
)

_naming_flags = False


class FewshotError(Exception):
    """A failure that the message explains. The command line exits with code 1."""

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        """Keep problem and remedy apart, for callers that know a better remedy."""
        super().__init__(f"{problem} {remedy}".rstrip())
        self._problem = problem

    def __str__(self) -> str:
        return worded(super().__str__())

    @property
    def problem(self) -> str:
        """The message without the remedy."""
        return worded(self._problem)


class UsageError(FewshotError):
    """An invalid flag, argument or path. The command line exits with code 2."""

    exit_code = 2


class InputError(UsageError, ValueError):
    """An invalid argument of a Python call; also a ValueError."""


@contextmanager
def speaking_of_flags() -> Iterator[None]:
    """Context in which messages name flags rather than Python arguments; process-wide."""
    global _naming_flags
    before, _naming_flags = _naming_flags, True
    try:
        yield
    finally:
        _naming_flags = before


def worded(message: str) -> str:
    """Return a message with Python arguments for flags, unless within `speaking_of_flags`."""
    return message if _naming_flags else _FLAG.sub(_argument, message)


def _argument(match: re.Match[str]) -> str:
    flag = match[1]
    return match[0] if flag is None else _ARGUMENTS.get(flag, flag.replace("-", "_"))


#: Message for a base model whose features or statistics are not finite.
NOT_FINITE = (
    "The model's values for these images are not finite: its weights are damaged, or grew without "
    "bounds in training. Use another, or train with a lower --lr."
)

#: Remedy for a damaged file.
TAKE_ANOTHER = "Take another copy, or make the file anew."
#: Characters of a reason that are told; torch names every tensor that is missing.
_LONGEST_REASON = 200
#: Exceptions from building a model from inconsistent file contents.
DAMAGE = (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, UsageError, ValueError)


@contextlib.contextmanager
def damage_as(headline: str) -> Iterator[None]:
    """Convert any `DAMAGE` within into a FewshotError: `headline`, then the reason."""
    try:
        yield
    except DAMAGE as error:
        raise FewshotError(f"{headline} ({_damage_reason(error)}). {TAKE_ANOTHER}") from None


def _damage_reason(error: Exception) -> str:
    """Return one line for a `DAMAGE` error: of torch's, the second, as the first is a headline."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return shorten(lines[min(1, len(lines) - 1)].rstrip("."), _LONGEST_REASON, placeholder=" …")


def first_line(error: object) -> str:
    """Return the first line of an error's message without its full stop, or else its type."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
