"""A record of the copies that `--sort-into` made, by which it recognises them in later runs.

It is a hidden SQLite file in the folder itself, so memory does not grow with it. A copy that was
changed, replaced or moved since belongs to the user, and is not recognised.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from fewshot_lite.core.errors import FewshotError

#: The name of the file.
MANIFEST = ".fewshot-lite-sorted"

_TABLE = """
CREATE TABLE IF NOT EXISTS copies (
    photo BLOB, copy BLOB, size INTEGER, changed INTEGER, PRIMARY KEY (photo, copy)
)"""


class Manifest:
    """The copies, or links, in a folder of class folders."""

    def __init__(self, folder: Path) -> None:
        """Prepare a manifest; the file is opened when it is first needed.

        Args:
            folder: the existing folder of `--sort-into`.
        """
        self._folder = folder
        self._path = folder / MANIFEST
        self._opened: sqlite3.Connection | None = None

    def copies_of(self, photo: Path) -> list[Path]:
        """Return the copies of a photo that are unchanged and in their place."""
        if self._opened is None and not self._path.exists():
            return []
        with self._failing():
            rows = self._table().execute(
                "SELECT copy, size, changed FROM copies WHERE photo = ?", (_key(photo),)
            )
            copies = [(self._folder / os.fsdecode(copy), (size, at)) for copy, size, at in rows]
        return [copy for copy, state in copies if _state(copy) == state]

    def add(self, photo: Path, copy: Path) -> None:
        """Record a copy."""
        if (state := _state(copy)) is None:  # gone again
            return
        name = os.fsencode(copy.relative_to(self._folder))
        with self._failing():
            self._table().execute(
                "INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?)", (_key(photo), name, *state)
            )

    def forget(self, photo: Path, copy: Path) -> None:
        """Remove a copy from the record."""
        name = os.fsencode(copy.relative_to(self._folder))
        with self._failing():
            self._table().execute(
                "DELETE FROM copies WHERE photo = ? AND copy = ?", (_key(photo), name)
            )

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _table(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = sqlite3.connect(self._path, timeout=10, isolation_level=None)
            self._opened.execute("PRAGMA synchronous=OFF")  # a lost entry does no harm
            self._opened.execute("PRAGMA journal_mode=MEMORY")
            self._opened.execute(_TABLE)
        return self._opened

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self.close()
            raise FewshotError(
                f"--sort-into {self._folder}: its list of copies, {MANIFEST}, cannot be used "
                f"({error}). Remove that file: the copies stay, and are no longer known."
            ) from None


def _key(photo: Path) -> bytes:
    return os.fsencode(os.path.realpath(photo))


def _state(copy: Path) -> tuple[int, int] | None:
    """Return size and time of a file, or of a link itself; None if there is none."""
    try:
        status = copy.lstat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
