"""Sanitise untrusted text before it is shown or written.

Names of files and classes, and strings in a model's description, may hold anything: escape
sequences that clear a terminal, marks that reverse the writing direction, spreadsheet formulas. All
text for a terminal or a page passes through `visible`, all text for a CSV file through `csv_cell`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import PurePath

#: Marks that change the writing direction, and the zero-width no-break space.
_TURNING = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)
#: How names differ for which `as_disks_see` is equal.
DIFFER_ONLY = "differ only in case, in spaces or in how their letters are stored"
#: The remedy for a class name with characters for which `is_hidden` holds.
NO_CONTROLS = "Take control characters and marks of writing direction out of the name of a class."
#: Characters that start a formula in spreadsheets.
_FORMULA = ("=", "+", "-", "@")


def is_hidden(character: str) -> bool:
    """Return whether a character is a control, line end, direction mark, or not valid Unicode."""
    return character in _TURNING or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def visible(text: str) -> str:
    """Replace hidden characters by Python escapes, so that the text is one line and encodable."""
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape", "surrogatepass").decode() if is_hidden(c) else c for c in text
    )


def as_disks_see(name: str) -> str:
    """Normalise a name, so that names that file systems or people take for one become equal.

    Windows and macOS ignore case, Windows ignores trailing spaces, and macOS decomposes accents.
    Nobody sees two spaces for one, or characters without width. Whoever writes m² beside m2 means
    two things (no compatibility forms).
    """
    seen = (c for c in unicodedata.normalize("NFC", name) if unicodedata.category(c) != "Cf")
    return " ".join("".join(seen).lower().split())


def some_of(names: Sequence[str], most: int = 5) -> str:
    """Return the first `most` names, quoted, and the number of further ones."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def csv_cell(value: object) -> str:
    """Return a CSV cell: empty for None, else `visible` text that is never a formula.

    A path that would begin a formula gets "./" in front and names the same file; any other text
    gets an apostrophe, as is usual in spreadsheets.
    """
    text = "" if value is None else visible(str(value))
    if not text.lstrip().startswith(_FORMULA):
        return text
    return f"./{text}" if isinstance(value, PurePath) else f"'{text}"
