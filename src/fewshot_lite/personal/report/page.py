"""Render a template to one self-contained page, with all text escaped, and write it."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_lite import __version__
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import atomic_path, check_output, failing_as
from fewshot_lite.core.text import visible

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, values: dict[str, Any]) -> str:
    """Render a page.

    Args:
        template: a file in `templates/`.
        values: the template's variables; a missing one is an error.
    """
    made = date_in_words(datetime.now())
    return _environment().get_template(template).render(values, made=made, version=__version__)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # not needed without a report

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_escape_invisible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"counted": counted, "percent": percent}
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    return environment


def _escape_invisible(value: object) -> object:
    """Escape invisible characters of text, but not of the templates' own markup."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def percent(share: float) -> str:
    """Format a share as the command line does; 100% is 1 alone."""
    return f"{min(share, 0.999):.1%}" if 0.995 <= share < 1 else f"{share:.0%}"


def date_in_words(date: datetime) -> str:
    """Format a date with the local time of day."""
    return date.astimezone().strftime("%d %B %Y, %H:%M").lstrip("0")


def check_report(path: Path, *, force: bool, others: Iterable[tuple[str, Path]] = ()) -> None:
    """Refuse an invalid path of a report, before the work that it is about.

    Args:
        path: the page to write.
        force: overwrite an existing file.
        others: flags and paths of the other files that are read and written.

    Raises:
        UsageError: it does not end in .html, exists and `force` is not set, is one of the others or
            cannot be written.
    """
    check_page_name(path)
    for other_flag, other in others:
        if os.path.realpath(path) == os.path.realpath(other):
            raise UsageError(f"--report {path}: the same file as {other_flag}. Give another name.")
    check_output(path, force=force, flag="--report", stream=True)


def check_page_name(path: Path) -> None:
    """Raise a UsageError unless the path ends in .html, as that of a photo or model does not."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--report {path}: a page for a browser. End it in .html.")


def write_page(path: Path, page: str, *, force: bool) -> None:
    """Write a page, whole or not at all.

    Raises:
        FewshotError: it cannot be written (the previous file, if any, is untouched).
    """
    with failing_as(path), atomic_path(path, force=force) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
