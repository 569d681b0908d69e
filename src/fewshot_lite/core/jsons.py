"""JSON as every reader takes it: numbers that are not finite become null, nesting has an end."""

from __future__ import annotations

import json
import math
from typing import Any

from fewshot_lite.core.text import is_hidden


def dumps(value: Any, *, indent: int | None = None, ascii_only: bool = True) -> str:
    """The JSON of a value; what JSON does not know (a path, a date) is written as text."""
    return json.dumps(
        _finite(value), indent=indent, ensure_ascii=ascii_only, default=str, allow_nan=False
    )


def dumps_for(encoding: str | None, value: Any, *, indent: int | None = None) -> str:
    """As `dumps`, with names as they are spelled where a stream's encoding has all of them.

    What a terminal would not show as it is (`core.text.is_hidden`) is escaped all the same.
    """
    text = dumps(value, indent=indent, ascii_only=False)
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return dumps(value, indent=indent)
    return "".join(f"\\u{ord(c):04x}" if c != "\n" and is_hidden(c) else c for c in text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


#: Levels of lists and objects within each other; what is nested deeper is nobody's description.
_DEEPEST = 100


def loads(text: str | bytes) -> Any:
    """The value of JSON from a file that anybody may have written.

    Raises:
        ValueError: no JSON, or nested so deep that walking through it would exhaust the stack.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Raise ValueError for lists and dictionaries that are nested too deep to be walked through."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    if level:
        raise ValueError("nested too deep")
