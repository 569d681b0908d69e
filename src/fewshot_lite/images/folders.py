"""Scan class folders for photos and their labels.

    my_objects/            an image folder: one folder per class
        mug/  a.jpg b.jpg
        keys/ c.jpg

A *collection* is a folder of such image folders; each task is drawn from one of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Self

from fewshot_lite.core.errors import FewshotError, InputError, UsageError
from fewshot_lite.core.files import as_path, check_there, why_not_there
from fewshot_lite.core.text import DIFFER_ONLY, as_disks_see
from fewshot_lite.images.kinds import NOT_A_PHOTO, why_no_photo

if TYPE_CHECKING:  # `--help` must not import numpy
    from fewshot_lite.images.photo import Source

#: Files of cameras' cards, file managers and NAS boxes, which are ignored silently.
_SYSTEM_NAMES = frozenset(
    [
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "icon\r"),
        *("system volume information", "lost+found", "@eadir", "#recycle", "__macosx"),
    ]
)

#: Names of data-set splits, which are not classes: train, Test, val2017, test_set, held-out.
_PART = re.compile(
    r"(images[-_ ]?)?(train(ing)?|trn|val(id(ation)?)?|dev|eval(uation)?|te?st(ing)?|"
    r"h[eo]ld[-_ ]?(out|back)|support|query)([-_ ]?(set|data|split|images))?([-_ ]?\d+)?"
)


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and the reason."""

    path: Path
    reason: str


def first_reason(skipped: Sequence[Skipped]) -> str:
    """Return the first of the files that were left out, and why, in brackets; "" without any."""
    return "".join(f" ({item.path.name}: {item.reason})" for item in skipped[:1])


@dataclass(frozen=True)
class LabelledImages:
    """A data set: the image `paths[i]` is of class `class_names[labels[i]]`."""

    name: str
    root: Path
    class_names: tuple[str, ...]
    paths: tuple[Source, ...]
    labels: tuple[int, ...]
    skipped: tuple[Skipped, ...] = field(default=())
    groups: tuple[str, ...] = ()
    """The video or track that each image belongs to, if known; a group is never on both sides of a
    task."""
    query_groups: frozenset[str] = frozenset()
    """Groups for the query set only; if there are any, the others are for the support set only."""

    def indices_by_class(self) -> list[list[int]]:
        """Return the indices into `paths` for each class, in order."""
        groups: list[list[int]] = [[] for _ in self.class_names]
        for index, label in enumerate(self.labels):
            groups[label].append(index)
        return groups

    def select(self, names: set[str]) -> Self:
        """Return the data set restricted to these classes, with labels renumbered."""
        kept = [name for name in self.class_names if name in names]
        new_label = {self.class_names.index(name): i for i, name in enumerate(kept)}
        indices = [i for i, label in enumerate(self.labels) if label in new_label]
        return replace(
            self,
            class_names=tuple(kept),
            paths=tuple(self.paths[i] for i in indices),
            labels=tuple(new_label[self.labels[i]] for i in indices),
            groups=tuple(self.groups[i] for i in indices) if self.groups else (),
        )


@dataclass(frozen=True)
class ImageFolder(LabelledImages):
    """The photos of a folder of class folders, both in alphabetical order on every system."""

    paths: tuple[Path, ...]


def is_system_name(name: str) -> bool:
    """Return whether a name is that of a hidden file or one that operating systems create."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def walk_photos(
    folder: Path,
    *,
    leave_out: Collection[str] = (),
    above: frozenset[str] = frozenset(),
    videos: bool = False,
) -> Iterator[tuple[Path, str | None]]:
    """Yield all files under a folder, sorted, as (path, None) or (path, why it is not a photo).

    Hidden and system files are ignored. A sub-folder that cannot be read, and a link back to an
    enclosing folder, are yielded with the reason and not entered. Memory is bounded by the names in
    one folder and its parents; nesting may be of any depth.

    Args:
        folder: the root.
        leave_out: real paths of folders to ignore.
        above: real paths of further folders that links must not lead back to.
        videos: accept videos as well.
    """
    inside = set(above)  # real paths of the folders being walked
    levels: list[tuple[Iterator[Path], str]] = [(iter([folder]), "")]
    while levels:
        entries, parent = levels[-1]
        entry = next(entries, None)
        if entry is None:
            levels.pop()
            inside.discard(parent)
            continue
        if entry is not folder and not _is_folder(entry):
            problem = why_no_photo(entry, videos=videos)
            if problem == NOT_A_PHOTO and not entry.suffix:  # perhaps a folder of photos
                problem = _why_lost(entry) or problem
            yield entry, problem
            continue
        real = _real(entry, parent)
        if real in leave_out:
            continue
        if real in inside:
            yield entry, "a link to a folder that contains it"
            continue
        try:
            names = _visible_names(entry)
        except OSError:
            yield entry, "folder cannot be read"
            continue
        levels.append((map(entry.__truediv__, names), real))
        inside.add(real)


def _real(entry: Path, parent: str) -> str:
    """Return the real path of an entry, given that of its folder, or "".

    `os.path.realpath` looks up every level, which takes minutes for 2,000 nested folders.
    """
    if not parent or os.name == "nt" or os.path.islink(entry):  # noqa: PTH114
        return os.path.realpath(entry)
    return os.path.join(parent, entry.name)  # noqa: PTH118


def _visible(folder: Path) -> list[Path]:
    """Return the entries of a folder, sorted, without system files; raise OSError."""
    return [folder / name for name in _visible_names(folder)]


def _visible_names(folder: Path) -> list[str]:
    """Return the names of `_visible`, which take a quarter of the memory of paths."""
    if not os.access(folder, os.R_OK | os.X_OK):  # without X_OK names can be listed, not opened
        raise PermissionError
    return sorted(name for name in os.listdir(folder) if not is_system_name(name))  # noqa: PTH208


def _is_folder(path: Path) -> bool:
    """Return `Path.is_dir`, but False where that raises, e.g. for a link to a private folder."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _why_lost(entry: Path) -> str | None:
    """Return why an entry of a folder cannot be opened, as for a link in a loop; None if it can."""
    try:
        entry.stat()
    except OSError as error:
        return why_not_there(error)[0]
    return None


def subfolders(folder: Path) -> list[Path]:
    """Return the visible sub-folders of a folder, sorted; raise OSError if it cannot be read."""
    return [path for path in _visible(folder) if _is_folder(path)]


def require_folder(folder: Path) -> Path:
    """Return the folder; raise UsageError if it is missing, a file or unreadable."""
    check_there(folder, missing="no such folder")
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: a file, not a folder. Give a folder with one folder per class."
        )
    try:
        _visible(folder)
    except OSError:
        raise UsageError(
            f"{folder}: no permission to read this folder. Change that, or give a copy."
        ) from None
    return folder


def scan_classes(folder: Path, name: str | None = None, *, videos: bool = False) -> ImageFolder:
    """Find the class folders of a folder and their photos; nothing is decoded.

    A class folder without photos is a class as well.

    Args:
        folder: of the class folders.
        name: of the data set; by default that of the folder.
        videos: accept videos as well.

    Raises:
        UsageError: the folder is missing, a file or unreadable.
        FewshotError: it has no class folders, or class names that cannot be told apart or written.
    """
    require_folder(folder)
    folders = subfolders(folder)
    skipped = [
        Skipped(path, _why_lost(path) or "not inside a class folder")
        for path in _visible(folder)
        if not _is_folder(path)
    ]
    if not folders:
        loose = [path for path, why in walk_photos(folder, videos=videos) if why is None]
        if loose:
            raise FewshotError(
                f"{folder}: photos lie directly in the folder. Put them into one folder per class, "
                f"e.g. {folder / 'mug' / loose[0].name} and {folder / 'keys'}{os.sep}..."
            )
        raise FewshotError(
            f"{folder}: no class folders{first_reason(skipped)}. It needs one folder per class "
            "with that class's photos inside."
        )
    _check_level(folder, folders, videos=videos)
    check_class_names(folder, [path.name for path in folders])
    paths: list[Path] = []
    labels: list[int] = []
    above = frozenset([os.path.realpath(folder)])  # a link back to it would mix the classes
    for label, path in enumerate(folders):
        for photo, problem in walk_photos(path, above=above, videos=videos):
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


def _check_level(folder: Path, folders: list[Path], *, videos: bool) -> None:
    """Raise FewshotError if folders are data-set splits, or a single one with several inside."""
    if not _is_collection(folders, videos=videos):
        return
    check_parts(folder, [path.name for path in folders], f"Give {folder}{os.sep}{{}}, e.g.,")
    if len(folders) == 1 and len(inside := subfolders(folders[0])) > 1:
        raise FewshotError(
            f"{folder}: one level too high. Its only folder holds {len(inside)} folders, which are "
            f"the classes. Give {folders[0]}."
        )


def is_part(name: str) -> bool:
    """Return whether a name is that of a data-set split."""
    return _PART.fullmatch(name.lower()) is not None


def check_parts(where: Path, names: Sequence[str], remedy: str) -> None:
    """Check that class names are not data-set splits.

    Args:
        where: the folder or archive, for the message.
        names: of the classes.
        remedy: says what to give instead, with {} for the training split.

    Raises:
        FewshotError: all names are those of splits.
    """
    if len(names) < 2 or not all(map(is_part, names)):
        return
    first = next((name for name in names if re.search("tr(ai)?n|support", name.lower())), names[0])
    raise FewshotError(
        f"{where}: its folders ({', '.join(map(repr, names))}) are the parts of a data set, and "
        f"the classes lie in them. {remedy.format(first)} and try the model on another."
    )


def check_class_names(folder: Path, names: Iterable[str]) -> None:
    """Check class names of a folder, archive or table.

    Raises:
        FewshotError: a name is not valid Unicode, or some file systems treat two as the same.
    """
    seen: dict[str, str] = {}
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:  # e.g. umlauts from an old ZIP file
            raise FewshotError(
                f"{folder}: the name of the class folder {name!r} is not valid Unicode. Rename it."
            ) from None
        twin = seen.setdefault(as_disks_see(name), name)
        if twin != name:
            raise FewshotError(
                f"{folder}: the class folders {twin!r} and {name!r} {DIFFER_ONLY}. Rename or merge "
                "them."
            )


def scan_collection(folder: Path) -> list[ImageFolder]:
    """Scan an image folder, or each image folder of a collection, for training.

    A folder is a collection if its sub-folders contain folders and no photos directly. Empty and
    unreadable sub-folders are disregarded.

    Raises:
        UsageError: as `scan_classes`.
        FewshotError: as `scan_classes`, or the folder holds no photos.
    """
    require_folder(folder)
    inner = subfolders(folder)
    if _is_collection(inner):
        data_sets = [scan_classes(path, path.name) for path in inner]
    else:
        data_sets = [scan_classes(folder)]
    if not any(data.paths for data in data_sets):
        raise FewshotError(f"{folder}: no photos in its class folders.")
    return data_sets


def some_folders(data: str | Path | Iterable[str | Path]) -> list[Path]:
    """Return one or several folders as a list; raise InputError if there is none."""
    several = data if isinstance(data, Iterable) and not isinstance(data, str | bytes) else [data]
    folders = [as_path(x, "data") for x in several]
    if not folders:
        raise InputError("data: there is none. Give a folder or more.")
    return folders


def scan_collections(folders: Iterable[Path]) -> list[ImageFolder]:
    """Scan several folders, each as `scan_collection` does.

    Raises:
        UsageError, FewshotError: as `scan_collection`; UsageError if two data sets share a name.
    """
    by_name: dict[str, ImageFolder] = {}
    for data in chain.from_iterable(map(scan_collection, folders)):
        if by_name.setdefault(data.name, data) is not data:
            raise UsageError(
                f"{data.root}: there is a data set {data.name!r} before it, and figures go by "
                "names. Give each once, or rename one."
            )
    return list(by_name.values())


def _is_collection(inner: list[Path], *, videos: bool = False) -> bool:
    holds_folders = False
    for path in chain.from_iterable(map(_contents, inner)):
        if _is_folder(path):
            holds_folders = True
        elif why_no_photo(path, videos=videos) is None:
            return False
    return holds_folders


def _contents(folder: Path) -> list[Path]:
    try:
        return _visible(folder)
    except OSError:
        return []
