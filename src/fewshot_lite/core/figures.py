"""Shared helpers for matplotlib figures; matplotlib is an optional extra."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import atomic_path
from fewshot_lite.core.text import visible

ENDINGS = (".png", ".svg", ".pdf")


def check_figure(path: Path, *others: Path, data: Iterable[Path] = ()) -> None:
    """Raise UsageError for an unsupported ending, another output, or a place among photos.

    Args:
        path: the figure to write.
        others: the other outputs.
        data: folders whose subfolders hold the photos that are read.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"--plot {path}: must end in {', '.join(ENDINGS)}.")
    for other in others:
        if other.resolve() == path.resolve():
            raise UsageError(f"--plot {path}: the same file as --output. Give another name.")
    for folder in data:
        if folder.resolve() in path.resolve().parent.parents:
            raise UsageError(f"--plot {path}: among the photos of {folder}. Give another folder.")


def require_matplotlib() -> None:
    """Raise FewshotError if matplotlib is not installed; to be called before the work."""
    try:
        import matplotlib  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
    except ImportError:
        raise FewshotError("--plot: needs an extra: pip install 'fewshot-lite[plot]'") from None


def to_draw(text: str) -> str:
    """Escape user-chosen text so that matplotlib draws it literally, not as a formula."""
    return visible(text).replace("$", r"\$")


def save_figure(canvas: Any, path: Path) -> None:
    """Write a matplotlib figure atomically, in the format of the file's ending."""
    # Without the date, the same figure gives the same file.
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph ")  # a script missing in its font
        canvas.savefig(
            temporary,
            format=path.suffix[1:].lower(),
            dpi=150,
            metadata=undated.get(path.suffix.lower(), {}),
        )
