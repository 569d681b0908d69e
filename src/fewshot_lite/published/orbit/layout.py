"""ORBIT's folders: users, their objects, clean and clutter videos of each, frames.

As data/orbit_dataset_readme.txt of https://github.com/microsoft/ORBIT-Dataset describes them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import READING, failing_as
from fewshot_lite.images.folders import is_system_name

#: The published split by users; also the names of its folders.
MODES = ("train", "validation", "test")

#: An object alone on a plain surface, and the object in the midst of others.
Kind = Literal["clean", "clutter"]

_USER = re.compile(r"P\d+")


@dataclass(frozen=True)
class Video:
    """A folder of frames; its name is unique in ORBIT and tells the user, object and kind."""

    folder: Path
    frames: tuple[str, ...]
    """File names in order of time."""

    @property
    def name(self) -> str:
        """As annotations and submissions name it."""
        return self.folder.name

    def path(self, frame: int) -> Path:
        """The file of a frame, by its position in `frames`."""
        return self.folder / self.frames[frame]


@dataclass(frozen=True)
class OrbitObject:
    """One thing of one user."""

    name: str
    clean: tuple[Video, ...]
    clutter: tuple[Video, ...]

    @property
    def videos(self) -> tuple[Video, ...]:
        """All of them, the clean ones first."""
        return self.clean + self.clutter


@dataclass(frozen=True)
class User:
    """One collector."""

    name: str
    objects: tuple[OrbitObject, ...]


@dataclass(frozen=True)
class OrbitFolder:
    """Where the users of one mode lie, and their annotations if there are any."""

    users: Path
    annotations: Path

    @property
    def mode(self) -> str:
        """Name of the split."""
        return self.users.name


def find_orbit(folder: Path) -> dict[str, OrbitFolder]:
    """Recognise ORBIT by its folders alone.

    Args:
        folder: ORBIT's root, with a folder for each mode, or a folder of users such as ROOT/test.

    Returns:
        the modes there are, by name, in the order of `MODES`; empty if it is not ORBIT.
    """
    found = {}
    for mode in MODES:
        if _holds_users(folder / mode):
            found[mode] = OrbitFolder(folder / mode, folder / "annotations" / mode)
    if not found and _holds_users(folder):
        folder = folder.absolute()
        found[folder.name] = OrbitFolder(folder, folder.parent / "annotations" / folder.name)
    return found


def find_mode(folder: Path, mode: str) -> OrbitFolder:
    """The users of one mode; a folder of users is taken for what it is, whatever its name.

    Raises:
        UsageError: the folder is not ORBIT, or lacks the mode.
    """
    found = find_orbit(folder)
    if not found:
        raise UsageError(
            f"{folder}: not ORBIT. It needs {Path(mode, 'P177', 'bag', 'clean', 'VIDEO')} and the "
            f"like, with the frames inside; `fewshot-lite data check {folder}` says what is there."
        )
    given = next(iter(found.values()))
    if given.users == folder.absolute():
        return given
    if mode in found:
        return found[mode]
    raise UsageError(
        f"{folder}: there is no {mode!r} folder with users, only {', '.join(found)}. Unpack "
        f"{mode}.zip of ORBIT into it."
    )


def _holds_users(folder: Path) -> bool:
    """A few users tell: those of a damaged copy may lack objects."""
    objects = (
        thing
        for user in islice(_folders(folder), 20)
        if _USER.fullmatch(user.name)
        for thing in islice(_folders(user), 5)
    )
    return any((thing / kind).is_dir() for thing in objects for kind in ("clean", "clutter"))


def _folders(folder: Path) -> Iterator[Path]:
    """Visible folders by name; none where there is no folder or it may not be read."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if not is_system_name(entry.name) and entry.is_dir():
            yield entry


def read_users(folder: OrbitFolder) -> list[User]:
    """All users of a mode, by name, with the names of all frames; empty videos too.

    Raises:
        FewshotError: a folder that cannot be read.
    """
    return [
        User(user.name, tuple(_read_object(thing) for thing in _folders(user)))
        for user in _folders(folder.users)
        if _USER.fullmatch(user.name)
    ]


def _read_object(folder: Path) -> OrbitObject:
    def videos(kind: Kind) -> tuple[Video, ...]:
        return tuple(Video(video, _frames(video)) for video in _folders(folder / kind))

    return OrbitObject(folder.name, videos("clean"), videos("clutter"))


def _frames(video: Path) -> tuple[str, ...]:
    with failing_as(video, READING), os.scandir(video) as entries:
        names = [entry.name for entry in entries]
    return tuple(sorted(n for n in names if n.lower().endswith(".jpg") and not is_system_name(n)))


def frame_number(frame: str) -> int:
    """The number in VIDEO-00001.jpg.

    Raises:
        FewshotError: the name has none.
    """
    number = Path(frame).stem.rpartition("-")[2]
    if not number.isdecimal():
        raise FewshotError(
            f"{frame}: the name of an ORBIT frame ends in its number, as in VIDEO-00001.jpg."
        )
    return int(number)
