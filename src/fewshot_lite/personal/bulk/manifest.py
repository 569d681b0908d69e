"""A record of what `--sort-into` put where: it knows its own copies when a photo is sorted again.

The list lies in the folder itself, as a hidden SQLite file: memory does not grow with it. A copy
that was changed, replaced or moved since is nobody's but the user's.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from fewshot_lite.core.errors import FewshotError

#: The list's name in the folder.
MANIFEST = ".fewshot-lite-sorted"

_TABLE = """
CREATE TABLE IF NOT EXISTS copies (
    photo BLOB, copy BLOB, size INTEGER, changed INTEGER, PRIMARY KEY (photo, copy)
)"""


class Manifest:
    """The copies, or links, in a folder of class folders."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read or written before it is needed.

        Args:
            folder: what `--sort-into` names; it is there.
        """
        self._folder = folder
        self._path = folder / MANIFEST
        self._opened: sqlite3.Connection | None = None

    def copies_of(self, photo: Path) -> list[Path]:
        """Copies of a photo that lie where they were put, as they were put."""
        if self._opened is None and not self._path.exists():
            return []
        with self._failing():
            rows = self._table().execute(
                "SELECT copy, size, changed FROM copies WHERE photo = ?", (_key(photo),)
            )
            found = [(self._folder / os.fsdecode(copy), (size, at)) for copy, size, at in rows]
        return [copy for copy, state in found if _state(copy) == state]

    def add(self, photo: Path, copy: Path) -> None:
        """Remember a copy that was put."""
        if (state := _state(copy)) is None:  # gone again
            return
        name = os.fsencode(copy.relative_to(self._folder))
        with self._failing():
            self._table().execute(
                "INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?)", (_key(photo), name, *state)
            )

    def forget(self, photo: Path, copy: Path) -> None:
        """A copy is there no longer."""
        name = os.fsencode(copy.relative_to(self._folder))
        with self._failing():
            self._table().execute(
                "DELETE FROM copies WHERE photo = ? AND copy = ?", (_key(photo), name)
            )

    def close(self) -> None:
        """Let go of the file."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _table(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = sqlite3.connect(self._path, timeout=10, isolation_level=None)
            self._opened.execute("PRAGMA synchronous=OFF")  # what is lost is a copy less of ours
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
    """Size and time of a file or a link itself; None if there is none."""
    try:
        status = copy.lstat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
