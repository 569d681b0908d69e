"""Errors a person can act on: one line that names the file or flag and the remedy.

Messages are written for the command line: `--force`. From Python they speak of the arguments that
stand for the flags: `force=True`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager

#: Flags whose arguments are called otherwise, or are switches.
_ARGUMENTS = {"model": "path", "class": "name"} | {
    switch: f"{switch}=True" for switch in ("force", "strict", "link", "all-frames")
}
#: Commands, which are typed as they stand, and flags outside of them.
_FLAG = re.compile(
    r"`[^`]*`|(?:pip install|meta-train|pretrain|torchrun) --[\w-]+|(?<![\w/-])--([a-z][a-z0-9-]*)"
)

_of_flags = False


class FewshotError(Exception):
    """Something failed that the message explains. The command line exits with code 1."""

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        """Say what is wrong, and what to do about it, if those who catch it may know better."""
        super().__init__(f"{problem} {remedy}".rstrip())
        self._problem = problem

    def __str__(self) -> str:
        return worded(super().__str__())

    @property
    def problem(self) -> str:
        """The message without the remedy, where the two were given apart."""
        return worded(self._problem)


class UsageError(FewshotError):
    """A flag, an argument or a path that cannot be. Exits with code 2."""

    exit_code = 2


class InputError(UsageError, ValueError):
    """An argument in Python that cannot be; a ValueError, too, for those who catch these."""


@contextmanager
def speaking_of_flags() -> Iterator[None]:
    """Within, messages name flags; outside they name the arguments of Python's functions.

    It holds for the process: one is a command or a program that calls us.
    """
    global _of_flags
    before, _of_flags = _of_flags, True
    try:
        yield
    finally:
        _of_flags = before


def worded(message: str) -> str:
    """A message that was written for the command line, in the words of whoever reads it."""
    return message if _of_flags else _FLAG.sub(_argument, message)


def _argument(found: re.Match[str]) -> str:
    flag = found[1]
    return found[0] if flag is None else _ARGUMENTS.get(flag, flag.replace("-", "_"))


#: Said of a base whose features or statistics are not finite.
NOT_FINITE = (
    "The model's values for these images are not finite: its weights are damaged, or grew without "
    "bounds in training. Use another, or train with a lower --lr."
)

#: What to do about a damaged file.
TAKE_ANOTHER = "Take another copy, or make the file anew."
#: Raised by building a model from a file's contents that do not belong together.
DAMAGE = (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, UsageError, ValueError)


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
        raise FewshotError(f"{headline} ({_what_is_damaged(error)}). {TAKE_ANOTHER}") from None


def _what_is_damaged(error: Exception) -> str:
    """One line for a `DAMAGE` error; torch puts a headline above the first thing that is wrong."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)].rstrip(".") if lines else type(error).__name__


def first_line(error: object) -> str:
    """The first line of what an error says, without its full stop; its kind if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
