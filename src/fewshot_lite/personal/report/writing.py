"""Where a report may go, and putting it there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import atomic_path, check_output


def check_report(
    path: Path, *, force: bool, others: Iterable[tuple[str, Path]] = (), flag: str = "--report"
) -> None:
    """Refuse a report before the work is done that it is about.

    Args:
        path: the page to write.
        force: it may be there.
        others: what else is read and written: flag and path.
        flag: what to call it in messages.

    Raises:
        UsageError: it does not end in .html, exists and `force` is not set, is one of the others or
            cannot be written.
    """
    check_page_name(path, flag=flag)
    for other_flag, other in others:
        if os.path.realpath(path) == os.path.realpath(other):
            raise UsageError(f"{flag} {path}: the same file as {other_flag}. Give another name.")
    check_output(path, force=force, flag=flag, stream=True)


def check_page_name(path: Path, *, flag: str = "--report") -> None:
    """Refuse what is no name of a page, and may be that of a photo or a model.

    Raises:
        UsageError: it does not end in .html.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{flag} {path}: a page for a browser. End it in .html.")


def write_page(path: Path, page: str, *, force: bool) -> None:
    """Write a page, whole or not at all.

    Raises:
        FewshotError: it cannot be written (the previous file, if any, is untouched).
    """
    try:
        with atomic_path(path, force=force) as temporary:
            temporary.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FewshotError(f"{path}: could not be written ({reason}).") from None
