"""Errors that have a status of their own in HTTP."""

from __future__ import annotations

from fewshot_lite.core.errors import FewshotError


class NotFound(FewshotError):
    """There is no class or photo of this name or number."""

    status = 404


class Conflict(FewshotError):
    """What was asked for does not go with how things are."""

    status = 409
