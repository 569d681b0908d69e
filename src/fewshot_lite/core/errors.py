"""Errors a person can act on: one line that names the file or flag and the remedy."""

from __future__ import annotations


class FewshotError(Exception):
    """Something failed that the message explains. The command line exits with code 1."""

    exit_code = 1


class UsageError(FewshotError):
    """A flag, an argument or a path that cannot be. Exits with code 2."""

    exit_code = 2
