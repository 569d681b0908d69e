"""The folder of class folders that the page edits, with changes that can be undone.

    FOLDER/mug/2026-11-30-101530-1f3a.jpg     photos, with the bytes that were sent
    FOLDER/.fewshot-lite/                     the page's own files: model, removed photos, a lock

Every change is one rename, or a file that is written completely before it gets its name, so that a
killed program leaves each photo at its old or its new place. Nothing is ever deleted: removed files
are moved to `.fewshot-lite/removed`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from fewshot_lite.core import jsons
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import atomic_path, failing_as
from fewshot_lite.images.folders import scan_classes, subfolders, walk_photos
from fewshot_lite.images.videos import is_video

#: The folder of the page's own files; hidden, so that it is not taken for a class.
OWN = ".fewshot-lite"

#: A change of a file: its former path (None if it is new), and its path now.
Move = tuple[Path | None, Path]


class Workspace:
    """A folder of class folders."""

    def __init__(self, root: Path) -> None:
        """Open a folder, creating it if it is missing.

        Raises:
            UsageError: it cannot be written, or another server uses it.
        """
        self.root = root
        self.own = root / OWN
        self.model_file = self.own / "model.safetensors"
        self._moves: list[Move] = []
        with failing_as(root, "cannot be worked on", UsageError):
            _check_own(self.own)
            (self.own / "removed").mkdir(parents=True, exist_ok=True)
            self._lock = (self.own / "lock").open("a+b")
        with contextlib.suppress(ImportError):  # Windows
            import fcntl

            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._lock.close()
                raise UsageError(
                    f"{root}: another `fewshot-lite serve` works on this folder. End it first."
                ) from None

    def close(self) -> None:
        """Release the folder's lock."""
        self._lock.close()

    def scan(self) -> tuple[tuple[str, ...], list[tuple[str, Path]]]:
        """Return class names, and the class and file of each photo.

        Raises:
            FewshotError: as `scan_classes`, unless the folder is empty.
        """
        loose = any(problem is None for _, problem in walk_photos(self.root))
        if not subfolders(self.root) and not loose:
            return (), []
        images = scan_classes(self.root)
        names = [images.class_names[label] for label in images.labels]
        return images.class_names, list(zip(names, images.paths, strict=True))

    def videos(self) -> list[Path]:
        """Return the videos in the class folders, which the page does not use."""
        files = [path for folder in subfolders(self.root) for path, _ in walk_photos(folder)]
        return [path for path in files if is_video(path)]

    def name_of(self, path: Path) -> str:
        """Return a file's relative path as `adapt` names photos: with /, and in valid Unicode."""
        relative = path.relative_to(self.root).as_posix()
        return os.fsencode(relative).decode(errors="replace")

    @contextlib.contextmanager
    def recording(self) -> Iterator[list[Move]]:
        """Record changes of files within the context, and undo them if it ends with an error."""
        moves = self._moves = []
        try:
            yield moves
        except BaseException:
            self.undo(moves)
            raise
        finally:
            self._moves = []

    def make_class(self, label: str) -> None:
        """Create the folder of a class, unless it exists."""
        folder = self.root / label
        if not folder.is_dir():
            with self._failing(folder):
                folder.mkdir()
            self._moves.append((None, folder))

    def rename_class(self, old: str, new: str) -> None:
        """Rename the folder of a class; raise UsageError if the name is taken."""
        source, target = self.root / old, self.root / new
        if not source.is_dir():
            return
        try:
            self._rename(source, target)
        except FileExistsError:
            raise UsageError(f"{new!r}: there is a file or folder of this name already.") from None

    def remove_class(self, label: str) -> None:
        """Put the folder of a class aside, with all of its files."""
        if (self.root / label).is_dir():
            self.remove(self.root / label)

    def write(self, label: str, name: str, data: bytes) -> Path:
        """Write a new photo under a name, or the name with a number."""
        self.make_class(label)
        for path in _free_paths(self.root / label, name):
            try:
                with self._failing(path), atomic_path(path, force=False) as temporary:
                    temporary.write_bytes(data)
            except FewshotError:
                if os.path.lexists(path):  # written by another program in the meantime
                    continue
                raise
            self._moves.append((None, path))
            return path
        raise AssertionError  # not reached: there is always a free name

    def move(self, path: Path, label: str) -> Path:
        """Move a photo to another class's folder, under its name or the name with a number."""
        self.make_class(label)
        return self._move_into(path, self.root / label)

    def remove(self, path: Path) -> None:
        """Put a photo or a folder aside."""
        self._move_into(path, self.own / "removed")

    def undo(self, moves: Sequence[Move]) -> None:
        """Undo changes, the last one first; new files are put aside.

        Raises:
            FewshotError: another program has created a file of the former name.
        """
        self._moves = []
        for source, target in reversed(moves):
            if not os.path.lexists(target):  # removed by another program
                continue
            if source is not None:
                try:
                    self._rename(target, source)
                except FileExistsError:
                    raise FewshotError(f"{source}: another file is there now.") from None
            elif target.is_dir() and not any(target.iterdir()):
                target.rmdir()
            else:
                self.remove(target)

    def read_json(self, name: str) -> Any:
        """Return a value of `write_json`, or None."""
        try:
            return jsons.loads((self.own / name).read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def write_json(self, name: str, value: Any) -> None:
        """Store a value among the page's own files."""
        with self._failing(self.own / name), atomic_path(self.own / name) as temporary:
            temporary.write_text(json.dumps(value), "utf-8")

    def _move_into(self, source: Path, folder: Path) -> Path:
        for target in _free_paths(folder, source.name):
            try:
                self._rename(source, target)
            except FileExistsError:
                continue
            return target
        raise AssertionError  # not reached: there is always a free name

    def _rename(self, source: Path, target: Path) -> None:
        """Rename a file; raise FileExistsError if the name is taken.

        It is one rename, not a link and an unlink, so that a killed program leaves a photo in one
        class.
        """
        with self._failing(source):
            if os.path.lexists(target) and not source.samefile(target):
                raise FileExistsError(target)
            source.rename(target)
        self._moves.append((source, target))

    @contextlib.contextmanager
    def _failing(self, path: Path) -> Iterator[None]:
        """Turn errors of the disk, except FileExistsError, into one line with the path."""
        try:
            yield
        except FileExistsError:
            raise
        except OSError:
            with failing_as(path, "could not be changed"):
                raise


def _check_own(own: Path) -> None:
    """Raise UsageError if any of the page's own files is a link, which could lead elsewhere."""
    for path in (own, *(own.iterdir() if own.is_dir() else ())):
        if path.is_symlink():
            raise UsageError(
                f"{path}: a link, through which files elsewhere would change. Remove it."
            )


def same_bytes(path: Path | None, data: bytes) -> bool:
    """Return whether a file holds these bytes; it is read only if the size is the same."""
    try:
        return path is not None and path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def _free_paths(folder: Path, name: str) -> Iterator[Path]:
    """Yield free paths for a file in a folder: with its name, then with numbers."""
    stem, suffix = Path(name).stem, Path(name).suffix
    for number in count(1):
        path = folder / (name if number == 1 else f"{stem}-{number}{suffix}")
        if not os.path.lexists(path):
            yield path
