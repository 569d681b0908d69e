"""Class folders on disk: which photos there are and what they show.

    my_objects/            an image folder: one folder per class
        mug/  a.jpg b.jpg
        keys/ c.jpg

A *collection* is a folder of such image folders; tasks then come from one of them at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fewshot_lite.errors import FewshotError, UsageError

#: Endings taken for photos when a folder is searched. Other files are named and skipped.
PHOTO_ENDINGS = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".gif",
        ".webp",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".heic",
        ".heif",
        ".hif",
        ".avif",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".tga",
        ".ico",
        ".jp2",
    ]
)

#: What cameras' cards, file managers and NAS boxes leave in folders: never photos, never named.
_SYSTEM_NAMES = frozenset({"thumbs.db", "desktop.ini", "@eadir", "__macosx", "ehthumbs.db"})


@dataclass(frozen=True)
class Skipped:
    """A file that was left out and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ImageFolder:
    """The photos of a folder of class folders.

    `paths[i]` shows `class_names[labels[i]]`; classes are in alphabetical order and their photos
    too, so the same folder gives the same indices anywhere.
    """

    name: str
    root: Path
    class_names: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    skipped: tuple[Skipped, ...] = field(default=())

    def indices_by_class(self) -> list[list[int]]:
        """Indices into `paths` for each class, in order."""
        groups: list[list[int]] = [[] for _ in self.class_names]
        for index, label in enumerate(self.labels):
            groups[label].append(index)
        return groups

    def select(self, names: set[str]) -> ImageFolder:
        """The same folder with these classes alone, labels renumbered."""
        kept = [name for name in self.class_names if name in names]
        number = {self.class_names.index(name): i for i, name in enumerate(kept)}
        pairs = [
            (p, number[y]) for p, y in zip(self.paths, self.labels, strict=True) if y in number
        ]
        return ImageFolder(
            name=self.name,
            root=self.root,
            class_names=tuple(kept),
            paths=tuple(path for path, _ in pairs),
            labels=tuple(label for _, label in pairs),
            skipped=self.skipped,
        )


def is_system_name(name: str) -> bool:
    """True for hidden files and what operating systems leave behind."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def walk_photos(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """All files under a folder, sorted, as (path, None) or (path, why it is no photo).

    Hidden and system files are passed over; a link that leads back to a folder already being
    walked is not followed.
    """
    yield from _walk(folder, frozenset())


def _walk(folder: Path, above: frozenset[str]) -> Iterator[tuple[Path, str | None]]:
    real = os.path.realpath(folder)
    if real in above:
        yield folder, "a link to a folder that contains it"
        return
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError:
        yield folder, "folder cannot be read"
        return
    for entry in entries:
        if is_system_name(entry.name):
            continue
        if entry.is_dir():
            yield from _walk(entry, above | {real})
        elif entry.suffix.lower() in PHOTO_ENDINGS:
            yield entry, None
        else:
            yield entry, "not a photo (by its ending)"


def subfolders(folder: Path) -> list[Path]:
    """The visible folders directly inside a folder, by name."""
    return sorted(
        (path for path in folder.iterdir() if path.is_dir() and not is_system_name(path.name)),
        key=lambda path: path.name,
    )


def require_folder(folder: Path) -> Path:
    """The folder itself, or a usage error that says what is wrong with it."""
    if not folder.exists():
        raise UsageError(f"{folder}: no such folder.")
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: a file, not a folder. Give a folder with one folder per class."
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UsageError(f"{folder}: no permission to read this folder.")
    return folder


def scan_classes(folder: Path, name: str | None = None) -> ImageFolder:
    """Find the class folders of a folder and their photos (nothing is decoded).

    Raises:
        UsageError: the folder is missing, a file or unreadable.
        FewshotError: it has no class folders, class names that differ only in case, or no photos.
    """
    require_folder(folder)
    folders = subfolders(folder)
    if not folders:
        loose = [path for path, problem in walk_photos(folder) if problem is None]
        if loose:
            raise FewshotError(
                f"{folder}: photos lie directly in the folder. Put them into one folder per class, "
                f"e.g. {folder / 'mug' / loose[0].name} and {folder / 'keys'}{os.sep}..."
            )
        raise FewshotError(
            f"{folder}: empty. It needs one folder per class with that class's photos inside."
        )
    seen: dict[str, Path] = {}
    for path in folders:
        twin = seen.setdefault(path.name.casefold(), path)
        if twin is not path:
            raise FewshotError(
                f"{folder}: the class folders {twin.name!r} and {path.name!r} differ only in case. "
                "Rename or merge them."
            )
    paths: list[Path] = []
    labels: list[int] = []
    skipped: list[Skipped] = []
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if not entry.is_dir() and not is_system_name(entry.name):
            skipped.append(Skipped(entry, "not inside a class folder"))
    for label, path in enumerate(folders):
        for photo, problem in walk_photos(path):
            if problem is None:
                paths.append(photo)
                labels.append(label)
            else:
                skipped.append(Skipped(photo, problem))
    return ImageFolder(
        name=name or folder.resolve().name,
        root=folder,
        class_names=tuple(path.name for path in folders),
        paths=tuple(paths),
        labels=tuple(labels),
        skipped=tuple(skipped),
    )


def scan_collection(folder: Path) -> list[ImageFolder]:
    """An image folder, or each image folder of a collection, for training.

    A folder whose sub-folders hold folders (and no photos of their own) is a collection.

    Raises:
        UsageError: as `scan_classes`.
        FewshotError: as `scan_classes`, or nothing in the folder holds photos.
    """
    require_folder(folder)
    inner = subfolders(folder)
    if inner and all(_holds_folders_only(path) for path in inner):
        found = [scan_classes(path, path.name) for path in inner]
    else:
        found = [scan_classes(folder)]
    if not any(data.paths for data in found):
        raise FewshotError(f"{folder}: no photos in its class folders.")
    return found


def _holds_folders_only(folder: Path) -> bool:
    entries = [path for path in folder.iterdir() if not is_system_name(path.name)]
    return any(path.is_dir() for path in entries) and not any(
        path.suffix.lower() in PHOTO_ENDINGS for path in entries if path.is_file()
    )
