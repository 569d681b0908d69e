"""How properties are tested: few examples, the same each time, nothing kept on disk."""

from __future__ import annotations

from hypothesis import settings

PROPERTY = settings(max_examples=20, derandomize=True, deadline=None, database=None)
