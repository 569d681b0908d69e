"""JSON as every reader takes it: a number that is not finite becomes null, not NaN."""

from __future__ import annotations

import json
import math
from typing import Any


def dumps(value: Any, *, indent: int | None = None, ascii_only: bool = True) -> str:
    """The JSON of a value; what JSON does not know (a path, a date) is written as text."""
    return json.dumps(
        _finite(value), indent=indent, ensure_ascii=ascii_only, default=str, allow_nan=False
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
