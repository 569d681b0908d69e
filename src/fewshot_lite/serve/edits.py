"""The edits of a user. Each changes files in the workspace and returns the new board.

All raise NotFound for a class or a photo that does not exist, and UsageError for the name of a new
class that is taken or not allowed, and for a class that is to be merged with itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from fewshot_lite.core.errors import UsageError
from fewshot_lite.serve.board import Board, Photo
from fewshot_lite.serve.workspace import Workspace


@dataclass(frozen=True)
class Change:
    """The outcome of an edit, after its files were changed."""

    what: str
    """A description, shown beside Undo."""
    board: Board
    """The new board."""


def create_class(board: Board, files: Workspace, label: str) -> Change:
    """Add a class without photos."""
    board.check_new(label)
    files.make_class(label)
    return Change(f"Added the class {label}", replace(board, classes=(*board.classes, label)))


def rename_class(board: Board, files: Workspace, old: str, new: str) -> Change:
    """Rename a class."""
    board.check(old)
    board.check_new(new, instead_of=old)
    files.rename_class(old, new)
    photos = []
    for photo in board.of_class(old):
        path = photo.path
        if path is not None:
            path = files.root / new / path.relative_to(files.root / old)
        photos.append(_renamed(files, replace(photo, label=new, path=path)))
    classes = tuple(new if name == old else name for name in board.classes)
    changed = replace(board, classes=classes).with_photos(photos)
    return Change(f"Renamed {old} to {new}", changed)


def merge_classes(board: Board, files: Workspace, old: str, into: str) -> Change:
    """Move all photos of a class into another one, and remove the class."""
    board.check(old)
    board.check(into)
    if old == into:
        raise UsageError(f"{old!r}: a class cannot be merged with itself.")
    moved = _moved(board, files, board.of_class(old), into)
    files.remove_class(old)
    return Change(f"Merged {old} into {into}", moved.without_class(old))


def remove_class(board: Board, files: Workspace, label: str) -> Change:
    """Remove a class and its photos."""
    board.check(label)
    files.remove_class(label)
    return Change(f"Removed {label}", board.without_class(label))


def move_photos(board: Board, files: Workspace, numbers: Iterable[int], label: str) -> Change:
    """Move photos into another class."""
    photos = board.by_numbers(numbers)
    board.check(label)
    moved = _moved(board, files, [p for p in photos if p.label != label], label)
    return Change(f"Moved {counted(len(photos))} to {label}", moved)


def remove_photos(board: Board, files: Workspace, numbers: Iterable[int]) -> Change:
    """Remove photos."""
    photos = board.by_numbers(numbers)
    for photo in photos:
        if photo.path is not None:
            files.remove(photo.path)
    return Change(f"Removed {counted(len(photos))}", board.without_photos(photos))


def keep_photos(board: Board, files: Workspace, numbers: Iterable[int]) -> Change:
    """Mark photos as confirmed to be in the right class."""
    photos = [replace(photo, kept=True) for photo in board.by_numbers(numbers)]
    return Change(f"Kept {counted(len(photos))}", board.with_photos(photos))


def counted(number: int) -> str:
    """Return a number of photos in words."""
    return "a photo" if number == 1 else f"{number} photos"


def _moved(board: Board, files: Workspace, photos: Iterable[Photo], label: str) -> Board:
    moved = []
    for photo in photos:
        path = photo.path and files.move(photo.path, label)
        moved.append(_renamed(files, replace(photo, label=label, path=path, kept=False)))
    return board.with_photos(moved)


def _renamed(files: Workspace, photo: Photo) -> Photo:
    """Set the name of a photo to its file's place in the folder, if it has a file."""
    if photo.path is None:
        return photo
    return replace(photo, name=files.name_of(photo.path))
