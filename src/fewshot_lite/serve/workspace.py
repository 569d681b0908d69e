"""The folder of class folders that the page works on: what is on disk, and how moves are undone.

    FOLDER/mug/2026-11-30-101530-1f3a.jpg     photos, as their bytes came
    FOLDER/.fewshot-lite/                     the page's own: model, removed photos, a lock

Every change is one rename, or a file that is written whole before it gets its name: a program that
is killed leaves each photo where it was or where it was to be. Nothing is ever deleted: what is
removed lies in `.fewshot-lite/removed`.
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

#: The page's own folder; hidden, so that no command takes it for a class.
OWN = ".fewshot-lite"

#: A rename that was done: from where (None: it is new) and to where.
Move = tuple[Path | None, Path]


class Workspace:
    """A folder of class folders."""

    def __init__(self, root: Path) -> None:
        """Open a folder, or make it.

        Raises:
            UsageError: it cannot be written, or another page works on it.
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
        """Let others work on the folder."""
        self._lock.close()

    def scan(self) -> tuple[tuple[str, ...], list[tuple[str, Path]]]:
        """Class names, and (class, file) of each photo.

        Raises:
            FewshotError: as `scan_classes`, for folders that are there.
        """
        loose = any(problem is None for _, problem in walk_photos(self.root))
        if not subfolders(self.root) and not loose:
            return (), []
        found = scan_classes(self.root)
        names = [found.class_names[label] for label in found.labels]
        return found.class_names, list(zip(names, found.paths, strict=True))

    def videos(self) -> list[Path]:
        """The videos in the class folders, which the page does not take."""
        found = [path for home in subfolders(self.root) for path, _ in walk_photos(home)]
        return [path for path in found if is_video(path)]

    def name_of(self, path: Path) -> str:
        """A file's place in the folder, as `adapt` names photos: with /, and valid Unicode."""
        relative = path.relative_to(self.root).as_posix()
        return os.fsencode(relative).decode(errors="replace")

    @contextlib.contextmanager
    def recording(self) -> Iterator[list[Move]]:
        """While entered, what is done to files is noted, and taken back if it ends in an error."""
        moves = self._moves = []
        try:
            yield moves
        except BaseException:
            self.undo(moves)
            raise
        finally:
            self._moves = []

    def make_class(self, label: str) -> None:
        """A folder for a class, unless there is one."""
        home = self.root / label
        if not home.is_dir():
            with self._failing(home):
                home.mkdir()
            self._moves.append((None, home))

    def rename_class(self, old: str, new: str) -> None:
        """Another name for a class's folder.

        Raises:
            UsageError: it is taken.
        """
        source, target = self.root / old, self.root / new
        if not source.is_dir():
            return
        try:
            self._rename(source, target)
        except FileExistsError:
            raise UsageError(f"{new!r}: there is a file or folder of this name already.") from None

    def remove_class(self, label: str) -> None:
        """A class's folder put aside, with all that is in it."""
        if (self.root / label).is_dir():
            self.remove(self.root / label)

    def write(self, label: str, name: str, data: bytes) -> Path:
        """A new photo, whole, under this name or the name numbered."""
        self.make_class(label)
        for path in _free(self.root / label, name):
            try:
                with self._failing(path), atomic_path(path, force=False) as temporary:
                    temporary.write_bytes(data)
            except FewshotError:
                if os.path.lexists(path):  # by another program, meanwhile
                    continue
                raise
            self._moves.append((None, path))
            return path
        raise AssertionError  # there is always a free name

    def move(self, path: Path, label: str) -> Path:
        """A photo put into another class's folder, under its name or the name numbered."""
        self.make_class(label)
        return self._to_free(path, self.root / label)

    def remove(self, path: Path) -> None:
        """A photo, or a folder, put aside."""
        self._to_free(path, self.own / "removed")

    def undo(self, moves: Sequence[Move]) -> None:
        """Take back what was done, the last first; what was new is put aside.

        Raises:
            FewshotError: another program put a file in the way.
        """
        self._moves = []
        for source, target in reversed(moves):
            if not os.path.lexists(target):  # another program took it away
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
        """What `write_json` wrote, or None."""
        try:
            return jsons.loads((self.own / name).read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def write_json(self, name: str, value: Any) -> None:
        """Keep a value, whole or not at all."""
        with self._failing(self.own / name), atomic_path(self.own / name) as temporary:
            temporary.write_text(json.dumps(value), "utf-8")

    def _to_free(self, source: Path, home: Path) -> Path:
        for target in _free(home, source.name):
            try:
                self._rename(source, target)
            except FileExistsError:
                continue
            return target
        raise AssertionError  # there is always a free name

    def _rename(self, source: Path, target: Path) -> None:
        """Rename to a name that is free; FileExistsError if it is not.

        One rename, and not a second name and then the first one gone: so a program that is killed
        leaves a photo in one class.
        """
        with self._failing(source):
            if os.path.lexists(target) and not source.samefile(target):
                raise FileExistsError(target)
            source.rename(target)
        self._moves.append((source, target))

    @contextlib.contextmanager
    def _failing(self, path: Path) -> Iterator[None]:
        """One line that names the file, for what the disk does not do."""
        try:
            yield
        except FileExistsError:
            raise
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise FewshotError(f"{path}: could not be changed ({reason}).") from None


def _check_own(own: Path) -> None:
    """Refuse links in place of what the page writes: they would have it write elsewhere.

    Raises:
        UsageError: there are some.
    """
    for path in (own, *(own.iterdir() if own.is_dir() else ())):
        if path.is_symlink():
            raise UsageError(
                f"{path}: a link, through which files elsewhere would change. Remove it."
            )


def same_bytes(path: Path | None, data: bytes) -> bool:
    """Whether a file holds these bytes; it is read only if it has as many."""
    try:
        return path is not None and path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def _free(home: Path, name: str) -> Iterator[Path]:
    """Names for a file in a folder that are not taken: its own, then numbered."""
    stem, suffix = Path(name).stem, Path(name).suffix
    for number in count(1):
        path = home / (name if number == 1 else f"{stem}-{number}{suffix}")
        if not os.path.lexists(path):
            yield path
