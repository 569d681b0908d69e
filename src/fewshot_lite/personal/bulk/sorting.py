"""Copy or link photos into a folder for each class; no photo is moved, deleted or overwritten.

A photo that is there already is left, so sorting twice changes nothing. Photos of the same name are
compared by a hash of their bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.files import failing_as, locked_temporary, remove_leftovers, rename_new
from fewshot_lite.core.text import is_hidden
from fewshot_lite.images.folders import is_system_name
from fewshot_lite.personal.bulk.manifest import Manifest
from fewshot_lite.personal.prediction import UNKNOWN

#: Errors that every later photo would meet too.
_FATAL = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EROFS])

#: Names that Windows reserves for devices, with any extension.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)

#: Prefix of temporary files.
_TEMPORARY = ".fewshot-lite-"
#: The most photos with copies in two classes that are listed.
MOST_NAMED = 20
#: The longest name of a folder in bytes, and of a file, as file systems take it.
_LONGEST_NAME, _LONGEST_FILE = 200, 255


class SortingProblem(Exception):
    """A photo that could not be sorted; the message is the reason alone."""


@dataclass
class _Namesakes:
    """The photos in one folder with one name, or with this name and a number from 2 on."""

    looked_at: int = 0
    """Numbers up to this one are taken."""
    places: dict[bytes, Path] = field(default_factory=dict)
    """The photos by the hash of their bytes."""


class Sorter:
    """Sorts photos into class folders."""

    def __init__(
        self,
        folder: Path,
        class_names: Iterable[str],
        *,
        link: bool = False,
        resort: bool = False,
    ) -> None:
        """Create the folder if it does not exist.

        Args:
            folder: gets a folder for each class with a photo, and for unknown photos.
            class_names: the model's.
            link: make symbolic links instead of copies.
            resort: move copies of earlier runs whose class has changed.

        Raises:
            FewshotError: it cannot be created.
        """
        self.folder = folder
        self.link = link
        self.resort = resort
        self.placed = 0
        self.left = 0
        self.moved = 0
        self.twice: list[tuple[Path, Path]] = []
        """The first `MOST_NAMED` photos with a copy in another class, and that copy."""
        self.in_two_classes = 0
        self._manifest = Manifest(folder)
        self._folders = folder_names([*class_names, UNKNOWN])
        self._homes: set[Path] = set()
        self._emptied: set[Path] = set()
        self._namesakes: dict[Path, _Namesakes] = {}  # only for names that were taken
        self._made = not os.path.lexists(folder)
        self._make(folder)

    def place(self, photo: Path, label: str) -> Path:
        """Copy or link a photo into the folder of its class.

        Returns:
            The photo's path there: its name, with a number if another photo had that name.

        Raises:
            SortingProblem: this photo could not be copied.
            FewshotError: no photo can be, e.g. as the disk is full.
        """
        home = self.folder / self._folders[label]
        self._make(home)
        if home not in self._homes:
            remove_leftovers(home / "any", _TEMPORARY)
            self._homes.add(home)
        try:
            target = self._sort(photo, home)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            if error.errno in _FATAL:
                with failing_as(f"--sort-into {self.folder}"):
                    raise
            verb = "linked" if self.link else "copied"
            raise SortingProblem(f"could not be {verb} into {home} ({reason})") from None
        return target

    def close(self) -> None:
        """Remove what is left empty of folders, and close the manifest.

        These are class folders that moving emptied, and the folder itself if this created it.

        This waits for the end, as a later photo may be of such a class. A folder with anything else
        in it, e.g. a hidden file, stays.
        """
        for folder in self._emptied - {self.folder}:
            with contextlib.suppress(OSError):
                folder.rmdir()
        self._emptied.clear()
        self._manifest.close()
        if self._made:
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    def _sort(self, photo: Path, home: Path) -> Path:
        """Place a photo in an existing folder, considering earlier copies; raises OSError."""
        earlier = [copy for copy in self._manifest.copies_of(photo) if _same(photo, copy)]
        astray = [copy for copy in earlier if copy.parent != home]
        there = next((copy for copy in earlier if copy.parent == home), None)
        if there is not None:
            self.left += 1
        elif astray and self.resort:
            copy = astray.pop()
            there = self._place(photo, home, lambda _, target: _move(copy, target))
            if os.path.lexists(copy):  # not moved: the same photo was there already
                copy.unlink()
            else:
                self.placed -= 1
            self._moved(photo, copy)
            self._manifest.add(photo, there)
        else:
            before = self.placed
            there = self._place(photo, home, _link if self.link else _copy)
            if self.placed > before:
                self._manifest.add(photo, there)
        for copy in astray:
            if self.resort:
                copy.unlink()  # a second copy of an earlier run
                self._moved(photo, copy)
                continue
            self.in_two_classes += 1
            if len(self.twice) < MOST_NAMED:
                self.twice.append((there, copy))
        return there

    def _moved(self, photo: Path, copy: Path) -> None:
        """Count a copy that was moved or removed, and forget it."""
        self.moved += 1
        self._emptied.add(copy.parent)
        self._manifest.forget(photo, copy)

    def _place(self, photo: Path, home: Path, put: Callable[[Path, Path], None]) -> Path:
        """Put a photo into a folder under a free name, unless it is there; raises OSError."""
        target = home / photo.name
        if not os.path.lexists(target):
            with contextlib.suppress(FileExistsError):  # created by another program meanwhile
                put(photo, target)
                self.placed += 1
                return target
        namesakes = self._namesakes.setdefault(target, _Namesakes())
        digest = _digest(photo)
        while True:
            known = None if digest is None else namesakes.places.get(digest)
            if known is not None and os.path.lexists(known):
                self.left += 1
                return known
            number = namesakes.looked_at + 1
            target = home / (photo.name if number == 1 else file_name(photo, after=f"-{number}"))
            if not os.path.lexists(target):
                with contextlib.suppress(FileExistsError):
                    put(photo, target)
                    self.placed += 1
                    return target
            namesakes.looked_at = number
            with contextlib.suppress(OSError):  # a broken link
                if (there := _digest(target)) is not None:
                    namesakes.places.setdefault(there, target)

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            there = isinstance(error, FileExistsError)
            reason = "a file, not a folder" if there else (error.strerror or str(error)).lower()
            where = f"--sort-into {self.folder}"
            if folder != self.folder:
                where += f": {folder}"
            raise FewshotError(f"{where}: {reason}.") from None


def folder_names(labels: Iterable[str]) -> dict[str, str]:
    """Return a folder name for each label, valid and distinct on any file system.

    Most are the labels themselves. Of others that collide the first gets the name.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    safe_names = {label: _safe_name(label) for label in labels}
    for label in sorted(safe_names, key=lambda label: safe_names[label] != label):
        safe = safe_names[label]
        for number in count(1):
            name = safe if number == 1 else f"{safe}-{number}"
            key = unicodedata.normalize("NFC", name).casefold()
            if key not in taken:
                break
        taken.add(key)
        names[label] = name
    return {label: names[label] for label in safe_names}


def file_name(photo: Path, *, before: str = "", after: str = "") -> str:
    """Return a photo's file name with text around its stem, which is cut where that is too long."""
    extra = len(f"{before}{after}{photo.suffix}".encode(errors="surrogateescape"))
    stem = photo.stem
    while stem and extra + len(stem.encode(errors="surrogateescape")) > _LONGEST_FILE:
        stem = stem[:-1]
    return f"{before}{stem}{after}{photo.suffix}"


def class_of_folder(folder: str, class_names: Sequence[str]) -> str:
    """Return the class whose photos a folder of this name has: most often of the same name.

    It is another for the folders that `folder_names` made for classes whose names are no folder's.
    """
    if folder in class_names:
        return folder
    homes = folder_names([*class_names, UNKNOWN])
    return next((name for name in class_names if homes[name] == folder), folder)


def windows_changes(name: str) -> bool:
    """Return whether Windows takes a name for a device, or drops dots and spaces at its end."""
    return name != name.rstrip(". ") or _DEVICES.fullmatch(name) is not None


def _safe_name(label: str) -> str:
    name = "".join("_" if c in '<>:"/\\|?*' or is_hidden(c) else c for c in label)
    name = name.encode()[:_LONGEST_NAME].decode(errors="ignore")
    name = name.rstrip(". ")  # Windows drops them
    if is_system_name(name) or windows_changes(name):
        name = "_" + name
    return name or "_"


def _same(photo: Path, copy: Path) -> bool:
    """Whether a copy has the present bytes of the photo."""
    digest = _digest(photo)
    return digest is not None and digest == _digest(copy)


def _digest(photo: Path) -> bytes | None:
    """Return a hash of the bytes of a photo; None for what cannot be one."""
    from fewshot_lite.images.opening import MAX_BYTES  # Pillow is not needed for help texts

    status = photo.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:  # reading a pipe would block
        return None
    with photo.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _move(copy: Path, target: Path) -> None:
    """Move a copy; raises FileExistsError if the target exists."""
    if copy.is_symlink():
        target.symlink_to(os.readlink(copy))  # noqa: PTH115
    else:
        rename_new(copy, target)
    copy.unlink(missing_ok=True)  # `rename_new` may leave a second hard link


def _link(photo: Path, target: Path) -> None:
    target.symlink_to(photo.absolute())


def _copy(photo: Path, target: Path) -> None:
    """Copy to a temporary file first, so that `target` is complete or missing.

    Raises:
        FileExistsError: `target` exists.
    """
    with locked_temporary(target.parent, _TEMPORARY) as temporary:
        shutil.copyfile(photo, temporary)
        with contextlib.suppress(PermissionError):  # some file systems refuse to set times
            shutil.copystat(photo, temporary)
        rename_new(temporary, target)
