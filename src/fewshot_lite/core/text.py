"""Text from files is data: names and descriptions, made harmless before they are shown or written.

Names of files and classes, and strings in a model's description, are whatever their author liked:
escape sequences that clear a terminal, marks that turn the direction of writing, formulas that a
spreadsheet computes. All text that reaches a terminal or a page passes through `visible`, all that
reaches a CSV file through `csv_cell`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import PurePath

#: Marks that change the direction of what follows, and a zero-width no-break space.
_TURNING = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)
#: Characters that spreadsheets take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@")


def is_hidden(character: str) -> bool:
    """Whether a character is not seen as it is: controls, line ends, bytes that are no Unicode."""
    return character in _TURNING or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def visible(text: str) -> str:
    """Text whose hidden characters are Python's escapes, so that it is one line and encodable."""
    if text.isprintable():  # as most is: no hidden character would be
        return text
    return "".join(
        c.encode("unicode_escape", "surrogatepass").decode() if is_hidden(c) else c for c in text
    )


def as_disks_see(name: str) -> str:
    """What names have in common that some disks take for one.

    Windows and macOS pass over case, Windows over spaces at the end, and macOS stores an accent
    apart from its letter.
    """
    return unicodedata.normalize("NFC", name).lower().strip()


def some_of(names: Sequence[str], most: int = 5) -> str:
    """The first of some names, quoted, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def csv_cell(value: object) -> str:
    """A cell of a CSV file, empty for None: `visible`, and never a formula.

    A path that begins as a formula does gets "./" before it and names the same file; any other text
    gets an apostrophe, as spreadsheets have it.
    """
    text = "" if value is None else visible(str(value))
    if not text.lstrip().startswith(_FORMULA):
        return text
    return f"./{text}" if isinstance(value, PurePath) else f"'{text}"
