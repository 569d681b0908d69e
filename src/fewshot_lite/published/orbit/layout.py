"""ORBIT's folders: users, their objects, clean and clutter videos of each, frames.

Their layout is described in data/orbit_dataset_readme.txt of
https://github.com/microsoft/ORBIT-Dataset.
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

#: The published splits by users, which are names of folders.
MODES = ("train", "validation", "test")

#: Videos of an object alone on a plain surface, and of it among other objects.
Kind = Literal["clean", "clutter"]

#: The published code takes every 30th frame of a video, as close frames show the same, and none
#: after the first 1,000. Its further cap of 200 clips is never reached.
FRAME_STRIDE, FRAME_CAP = 30, 1000

_USER = re.compile(r"P\d+")


@dataclass(frozen=True)
class Video:
    """A folder of frames; its name is unique in ORBIT and has the user, object and kind."""

    folder: Path
    frames: tuple[str, ...]
    """File names in order of time."""

    @property
    def name(self) -> str:
        """The name in annotations and submissions."""
        return self.folder.name

    def path(self, frame: int) -> Path:
        """Return the file of a frame, given its position in `frames`."""
        return self.folder / self.frames[frame]


@dataclass(frozen=True)
class OrbitObject:
    """An object of a user."""

    name: str
    clean: tuple[Video, ...]
    clutter: tuple[Video, ...]

    @property
    def videos(self) -> tuple[Video, ...]:
        """All videos, the clean ones first."""
        return self.clean + self.clutter


@dataclass(frozen=True)
class User:
    """A person who recorded objects."""

    name: str
    objects: tuple[OrbitObject, ...]


@dataclass(frozen=True)
class OrbitFolder:
    """The folder of the users of one mode, and that of their annotations, which may be missing."""

    users: Path
    annotations: Path

    @property
    def mode(self) -> str:
        """The name of the split."""
        return self.users.name


def find_orbit(folder: Path) -> dict[str, OrbitFolder]:
    """Recognise ORBIT by its folders alone.

    Args:
        folder: ORBIT's root, with a folder for each mode, or a folder of users such as ROOT/test.

    Returns:
        The modes by name, in the order of `MODES`; empty if the folder is not ORBIT.
    """
    modes = {
        mode: OrbitFolder(folder / mode, folder / "annotations" / mode)
        for mode in MODES
        if _holds_users(folder / mode)
    }
    if not modes and _holds_users(folder):
        folder = folder.absolute()
        modes[folder.name] = OrbitFolder(folder, folder.parent / "annotations" / folder.name)
    return modes


def find_mode(folder: Path, mode: str) -> OrbitFolder:
    """Return the folder of a mode; `folder` itself if it is a folder of users, whatever its name.

    Raises:
        UsageError: the folder is not ORBIT, or lacks the mode.
    """
    modes = find_orbit(folder)
    if not modes:
        raise UsageError(
            f"{folder}: not ORBIT. It needs {Path(mode, 'P177', 'bag', 'clean', 'VIDEO')} and the "
            f"like, with the frames inside; `fewshot-lite data check {folder}` says what is there."
        )
    first = next(iter(modes.values()))
    if first.users == folder.absolute():
        return first
    if mode in modes:
        return modes[mode]
    raise UsageError(
        f"{folder}: there is no {mode!r} folder with users, only {', '.join(modes)}. Unpack "
        f"{mode}.zip of ORBIT into it."
    )


def _holds_users(folder: Path) -> bool:
    """Return whether a folder holds users, by the first few: some may lack objects."""
    objects = (
        thing
        for user in islice(_folders(folder), 20)
        if _USER.fullmatch(user.name)
        for thing in islice(_folders(user), 5)
    )
    return any((thing / kind).is_dir() for thing in objects for kind in ("clean", "clutter"))


def _folders(folder: Path) -> Iterator[Path]:
    """Yield the visible folders in a folder by name; none if it is missing or unreadable."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if not is_system_name(entry.name) and entry.is_dir():
            yield entry


def read_users(folder: OrbitFolder) -> list[User]:
    """Return all users of a mode by name, with the names of all frames; also empty videos.

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
    """Return the number in a name such as VIDEO-00001.jpg; raise FewshotError if it has none."""
    number = Path(frame).stem.rpartition("-")[2]
    if not number.isdecimal():
        raise FewshotError(
            f"{frame}: the name of an ORBIT frame ends in its number, as in VIDEO-00001.jpg."
        )
    return int(number)
