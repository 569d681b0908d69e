"""Portable JSON: non-finite numbers become null, and nesting depth is limited when reading."""

from __future__ import annotations

import json
import math
from typing import Any

from fewshot_lite.core.text import is_hidden


def dumps(value: Any, *, indent: int | None = None, ascii_only: bool = True) -> str:
    """Serialise a value; types that JSON lacks (paths, dates) are written as text."""
    return json.dumps(
        _finite(value), indent=indent, ensure_ascii=ascii_only, default=str, allow_nan=False
    )


def dumps_for(encoding: str | None, value: Any, *, indent: int | None = None) -> str:
    """Serialise like `dumps`, without ASCII escapes if the stream's encoding has all characters.

    Characters that a terminal would hide (`core.text.is_hidden`) are always escaped.
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


#: Levels of nested lists and objects that are accepted.
_DEEPEST = 100


def loads(text: str | bytes) -> Any:
    """Parse JSON from an untrusted file.

    Raises:
        ValueError: not JSON, or nested so deeply that recursion over it would exhaust the stack.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
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
    return value
