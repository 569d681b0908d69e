"""Common parts of figures: matplotlib is an extra, files are whole and carry no date."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import atomic_path
from fewshot_lite.core.text import visible

#: Endings that matplotlib is asked for.
ENDINGS = (".png", ".svg", ".pdf")


def check_figure(path: Path, *others: Path) -> None:
    """Raise UsageError for another ending, or for a file that is another output as well."""
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"--plot {path}: must end in {', '.join(ENDINGS)}.")
    for other in others:
        if other.resolve() == path.resolve():
            raise UsageError(f"--plot {path}: the same file as --output. Give another name.")


def require_matplotlib() -> None:
    """Raise FewshotError if matplotlib is not there: before the work is done, not after it."""
    try:
        import matplotlib  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
    except ImportError:
        raise FewshotError("--plot: needs an extra: pip install 'fewshot-lite[plot]'") from None


def to_draw(text: str) -> str:
    """Text as matplotlib draws it as it is, not as a formula: names are whatever users like."""
    return visible(text).replace("$", r"\$")


def save_figure(canvas: Any, path: Path) -> None:
    """Write a matplotlib figure in the format of the file's ending."""
    # Without the date, the same figures give the same file.
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph ")  # a script that its font has not
        canvas.savefig(
            temporary,
            format=path.suffix[1:].lower(),
            dpi=150,
            metadata=undated.get(path.suffix.lower(), {}),
        )
