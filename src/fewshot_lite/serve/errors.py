"""Errors with their own HTTP status."""

from __future__ import annotations

from fewshot_lite.core.errors import FewshotError


class NotFound(FewshotError):
    """There is no class or photo of this name or number."""

    status = 404


class Conflict(FewshotError):
    """The request is not possible in the present state."""

    status = 409
