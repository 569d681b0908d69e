"""Find the photos to add to a personal model, each with its class."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import check_there
from fewshot_lite.images.clips import frames_of
from fewshot_lite.images.finding import find_labelled
from fewshot_lite.images.folders import (
    Skipped,
    require_folder,
    subfolders,
    walk_photos,
)
from fewshot_lite.images.inputs import Photo, as_sources
from fewshot_lite.images.photo import Source, place_of
from fewshot_lite.images.videos import is_video
from fewshot_lite.personal.bulk.sorting import class_of_folder
from fewshot_lite.personal.support import class_names_of


@dataclass(frozen=True)
class Addition:
    """A photo to add, not decoded yet."""

    source: Source
    label: str
    """Its class."""
    name: str
    """Its name in the model: class/path in the class's folder."""
    clip: str = ""
    """Equal for frames of one clip; empty for a photo."""


@dataclass(frozen=True)
class Additions:
    """The photos to add, and what was skipped."""

    photos: tuple[Addition, ...]
    homes: tuple[tuple[str, Path], ...]
    """Class names with the folders or files given for them, which may hold no photo."""
    skipped: tuple[Skipped, ...]


def find_additions(
    paths: Sequence[Path], name: str | None = None, known: Sequence[str] = ()
) -> Additions:
    """Find photos on disk.

    Args:
        paths: folders of class folders, or ZIP archives of such; or, with a name, photos and
            folders of photos.
        name: the class of all photos.
        known: the model's classes, some of which may have folders of other names
            (`bulk.sorting.class_of_folder`).

    Raises:
        UsageError: a path that is missing or of the other kind.
        FewshotError: no photos, or class folders as `scan_classes` refuses them.
    """
    additions: list[Addition] = []
    homes: list[tuple[str, Path]] = []
    skipped: list[Skipped] = []
    for path in paths:
        if name is None:
            _check_class_folders(path)
            folder = find_labelled(path)
            classes = [class_of_folder(home, known) for home in folder.class_names]
            homes += zip(classes, (path / home for home in folder.class_names), strict=True)
            skipped += folder.skipped
            skipped += [
                Skipped(path / home, "no photos in this folder")
                for k, home in enumerate(folder.class_names)
                if k not in folder.labels
            ]
            for photo, k in zip(folder.paths, folder.labels, strict=True):
                within = place_of(photo).relative_to(path / folder.class_names[k])
                additions.append(Addition(photo, classes[k], f"{classes[k]}/{_posix(within)}"))
            continue
        homes.append((name, path))
        root = path if os.path.isdir(path) else path.parent
        for photo, problem in _photos(path):
            if problem is None:
                additions.append(Addition(photo, name, f"{name}/{_posix(photo.relative_to(root))}"))
            else:
                skipped.append(Skipped(photo, problem))
    return Additions(tuple(additions), tuple(homes), tuple(skipped))


def label_additions(photos: Iterable[Photo], labels: Iterable[object]) -> Additions:
    """Combine N photos in any forms (`images.inputs.Photo`) with N class names.

    Raises:
        UsageError: another number of labels, or what is no photo.
        FewshotError: no photos.
    """
    sources = tuple(as_sources(photos))
    names = class_names_of(labels, len(sources))
    if not sources:
        raise FewshotError("photos: none were given.")
    additions = [
        Addition(source, name, f"{name}/{_posix(place_of(source).name)}")
        for source, name in zip(sources, names, strict=True)
    ]
    homes = [(name, Path(name)) for name in sorted(set(names))]
    return Additions(tuple(additions), tuple(homes), ())


def with_frames(additions: Sequence[Addition], size: int, number: int | None) -> list[Addition]:
    """Replace videos by their frames (`images.clips`)."""
    images = []
    for addition in additions:
        if not is_video(addition.source):
            images.append(addition)
            continue
        for frame in frames_of(addition.source, size, number):
            name = addition.name + str(frame).removeprefix(str(addition.source))
            clip = f"{addition.label} {addition.source}"
            images.append(Addition(frame, addition.label, name, clip))
    return images


def _check_class_folders(path: Path) -> None:
    """Refuse paths that need --class."""
    if os.path.isfile(path) and zipfile.is_zipfile(path):
        return
    if os.path.isfile(path):
        raise UsageError(f"{path}: a file, not a folder. For a photo, say what it shows: --class.")
    require_folder(path)
    photos = [entry for entry, problem in walk_photos(path, videos=True) if problem is None]
    if photos and not subfolders(path):
        raise UsageError(
            f"{path}: photos lie directly in the folder. Say what they show with --class, "
            f"e.g. --class {path.resolve().name!r}."
        )


def _photos(path: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield a photo, or those in a folder of one class, each with its problem, if any."""
    if not os.path.isdir(path):
        check_there(path, missing="no such file or folder")
        yield path, None
        return
    require_folder(path)
    inner = subfolders(path)
    photos = list(walk_photos(path, videos=True))
    if inner and not any(photo.parent == path for photo, problem in photos if problem is None):
        names = ", ".join(repr(folder.name) for folder in inner[:3])
        raise UsageError(
            f"--class: {path} holds folders ({names}) and no photos of its own. Leave out --class "
            "if they are classes, or else name the folders themselves."
        )
    if not photos:
        raise FewshotError(f"{path}: no photos in this folder.")
    yield from photos


def _posix(path: str | Path) -> str:
    """Spell a path with / and in valid Unicode, as `adapt` does."""
    return os.fsencode(Path(path).as_posix()).decode(errors="replace")
