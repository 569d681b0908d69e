"""Photos copied, or linked, into a folder for each class. Nothing is moved, deleted, overwritten.

A photo that is there already is left, so sorting again what was sorted changes nothing. Where many
photos have one name, each is known by a hash of its bytes: none is compared with all others.
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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.files import locked_temporary, remove_leftovers, rename_new
from fewshot_lite.core.text import is_hidden
from fewshot_lite.personal.bulk.manifest import Manifest
from fewshot_lite.personal.prediction import UNKNOWN

#: Of which no later photo would be spared.
_FATAL = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EROFS])

#: Names that Windows keeps for devices, with any ending.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)

#: How names of copies under way begin.
_TEMPORARY = ".fewshot-lite-"
#: Photos with copies in two classes that are named.
MOST_NAMED = 20
#: Bytes of a folder's name; disks take 255.
_LONGEST_NAME = 200


class SortingProblem(Exception):
    """One photo that could not be put where it belongs; the message is the reason alone."""


@dataclass
class _Namesakes:
    """The photos in one folder that have, or would have, one name: with numbers from 2 on."""

    looked_at: int = 0
    """Numbers up to this one are taken."""
    places: dict[bytes, Path] = field(default_factory=dict)
    """Where the photo with these bytes lies, by their hash."""


class Sorter:
    """Puts photos into class folders."""

    def __init__(
        self,
        folder: Path,
        class_names: Iterable[str],
        *,
        link: bool = False,
        resort: bool = False,
    ) -> None:
        """Make the folder, if it is not there.

        Args:
            folder: gets a folder for each class that a photo is found of, and for unknown ones.
            class_names: of the model.
            link: make symbolic links instead of copies.
            resort: move copies of our own that lie in another class.

        Raises:
            FewshotError: it cannot be made.
        """
        self.folder = folder
        self.link = link
        self.resort = resort
        self.placed = 0
        self.left = 0
        self.moved = 0
        self.twice: list[tuple[Path, Path]] = []
        """Photos with copies that lie in another class now, the first `MOST_NAMED` of them."""
        self.in_two_classes = 0
        self._manifest = Manifest(folder)
        self._folders = folder_names([*class_names, UNKNOWN])
        self._homes: set[Path] = set()
        self._left_by_copies: set[Path] = set()
        self._namesakes: dict[Path, _Namesakes] = {}  # only of names that were taken
        self._make(folder)

    def place(self, photo: Path, label: str) -> Path:
        """Put a photo into the folder of its class.

        Returns:
            Where it lies now: under its name, or with a number if another photo had that name.

        Raises:
            SortingProblem: this photo could not be copied.
            FewshotError: nor could any other: the disk is full, say.
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
                raise FewshotError(
                    f"--sort-into {self.folder}: could not be written ({reason})."
                ) from None
            verb = "linked" if self.link else "copied"
            raise SortingProblem(f"could not be {verb} into {home} ({reason})") from None
        return target

    def close(self) -> None:
        """Remove the class folders that moving emptied, and let go of the list of copies.

        Only now, as a photo that comes later may be of such a class. A folder that holds anything
        else, a hidden file, say, cannot be removed and stays.
        """
        for folder in self._left_by_copies - {self.folder}:
            with contextlib.suppress(OSError):
                folder.rmdir()
        self._left_by_copies.clear()
        self._manifest.close()

    def _sort(self, photo: Path, home: Path) -> Path:
        """`place` in a folder that is there, with regard to earlier copies; raises OSError."""
        earlier = [copy for copy in self._manifest.copies_of(photo) if _same(photo, copy)]
        astray = [copy for copy in earlier if copy.parent != home]
        there = next((copy for copy in earlier if copy.parent == home), None)
        if there is not None:
            self.left += 1
        elif astray and self.resort:
            copy = astray.pop()
            there = self._place(photo, home, lambda _, target: _move(copy, target))
            if os.path.lexists(copy):  # the same photo lay there already
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
                copy.unlink()  # one of two of our own copies
                self._moved(photo, copy)
                continue
            self.in_two_classes += 1
            if len(self.twice) < MOST_NAMED:
                self.twice.append((there, copy))
        return there

    def _moved(self, photo: Path, copy: Path) -> None:
        """Count, and forget, a copy that lies in another class no longer."""
        self.moved += 1
        self._left_by_copies.add(copy.parent)
        self._manifest.forget(photo, copy)

    def _place(self, photo: Path, home: Path, put: Callable[[Path, Path], None]) -> Path:
        """Put a photo into a folder under a free name, unless it is there; raises OSError."""
        target = home / photo.name
        if not os.path.lexists(target):
            with contextlib.suppress(FileExistsError):  # another program was quicker
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
            target = home / (photo.name if number == 1 else f"{photo.stem}-{number}{photo.suffix}")
            if not os.path.lexists(target):
                with contextlib.suppress(FileExistsError):
                    put(photo, target)
                    self.placed += 1
                    return target
            namesakes.looked_at = number
            with contextlib.suppress(OSError):  # a link to nowhere
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
    """A folder's name for each label: safe on any system, and no two that a disk may take for one.

    Most are the labels themselves; earlier ones keep their names.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for label in dict.fromkeys(labels):
        safe = _safe_name(label)
        for number in count(1):
            name = safe if number == 1 else f"{safe}-{number}"
            key = unicodedata.normalize("NFC", name).casefold()
            if key not in taken:
                break
        taken.add(key)
        names[label] = name
    return names


def _safe_name(label: str) -> str:
    name = "".join("_" if c in '<>:"/\\|?*' or is_hidden(c) else c for c in label)
    name = name.encode()[:_LONGEST_NAME].decode(errors="ignore")
    name = name.rstrip(". ")  # Windows drops them
    if name.startswith(".") or _DEVICES.fullmatch(name):  # hidden, or a device
        name = "_" + name
    return name or "_"


def _same(photo: Path, copy: Path) -> bool:
    """Whether a copy has the bytes that the photo has now."""
    digest = _digest(photo)
    return digest is not None and digest == _digest(copy)


def _digest(photo: Path) -> bytes | None:
    """A hash that two photos share if they have the same bytes; None of what is no photo."""
    from fewshot_lite.images.opening import MAX_BYTES  # Pillow is not needed for help texts

    status = photo.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:  # pipes would be waited for
        return None
    with photo.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _move(copy: Path, target: Path) -> None:
    """Give a copy another place; raises FileExistsError if that is taken."""
    if copy.is_symlink():
        target.symlink_to(os.readlink(copy))  # noqa: PTH115
    else:
        rename_new(copy, target)
    copy.unlink(missing_ok=True)  # it has two names where the disk has hard links


def _link(photo: Path, target: Path) -> None:
    target.symlink_to(photo.absolute())


def _copy(photo: Path, target: Path) -> None:
    """Copy under another name first: `target` is whole, or is not there.

    Raises:
        FileExistsError: `target` is there.
    """
    with locked_temporary(target.parent, _TEMPORARY) as temporary:
        shutil.copyfile(photo, temporary)
        with contextlib.suppress(PermissionError):  # of times; disks of other systems
            shutil.copystat(photo, temporary)
        rename_new(temporary, target)
