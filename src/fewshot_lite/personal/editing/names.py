"""Check names of classes and photos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.text import DIFFER_ONLY, as_disks_see, some_of
from fewshot_lite.personal.prediction import check_class_names


def check_known(name: str, known: Sequence[str], what: str) -> None:
    """Raise a UsageError, with the closest name, if a class or photo is not in the model."""
    if name in known:
        return
    if not isinstance(name, str):
        raise UsageError(f"{name!r}: the name of a {what} must be a text.")
    close = get_close_matches(name, known, n=1)
    hint = f" Is it {close[0]!r}?" if close else f" It has {some_of(known)}."
    raise UsageError(f"{name!r}: the model has no {what} of this name.{hint}")


def check_name(name: str, others: Iterable[str]) -> None:
    """Raise a UsageError for an invalid class name, or one too similar to another."""
    if not isinstance(name, str):
        raise UsageError(f"{name!r}: a class name must be a text.")
    if name.strip():
        check_class_names([name])
    if not name.strip() or name in (".", "..") or "/" in name or not name.isprintable():
        raise UsageError(f"{name!r}: no name for a class: it has to do for a folder. Give another.")
    for other in others:
        if other != name and as_disks_see(other) == as_disks_see(name):
            raise UsageError(
                f"{name!r} and the model's class {other!r} {DIFFER_ONLY}. Spell them alike."
            )
