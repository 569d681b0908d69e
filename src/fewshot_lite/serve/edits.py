"""What a person can change: each takes a board and its files, and gives the board that follows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from fewshot_lite.core.errors import UsageError
from fewshot_lite.serve.board import Board, Photo
from fewshot_lite.serve.workspace import Workspace


@dataclass(frozen=True)
class Change:
    """A change of a board; what it needed of files is done."""

    what: str
    """In words, for who may want it undone."""
    board: Board
    """As it is now."""


def create_class(board: Board, files: Workspace, label: str) -> Change:
    """A new class, without photos.

    Raises:
        UsageError: the name is taken, or will not do.
    """
    board.check_new(label)
    files.make_class(label)
    return Change(f"Added the class {label}", replace(board, classes=(*board.classes, label)))


def rename_class(board: Board, files: Workspace, old: str, new: str) -> Change:
    """Another name for a class.

    Raises:
        NotFound: there is no such class.
        UsageError: the name is taken, or will not do.
    """
    board.check(old)
    board.check_new(new, instead_of=old)
    files.rename_class(old, new)
    photos = []
    for photo in board.of_class(old):
        path = photo.path
        if path is not None:
            path = files.root / new / path.relative_to(files.root / old)
        photos.append(_named(files, replace(photo, label=new, path=path)))
    classes = tuple(new if name == old else name for name in board.classes)
    changed = replace(board, classes=classes).with_photos(photos)
    return Change(f"Renamed {old} to {new}", changed)


def merge_classes(board: Board, files: Workspace, old: str, into: str) -> Change:
    """Put all photos of a class into another one.

    Raises:
        NotFound: there is no such class.
        UsageError: they are the same.
    """
    board.check(old)
    board.check(into)
    if old == into:
        raise UsageError(f"{old!r}: a class cannot be merged with itself.")
    moved = _moved(board, files, board.of_class(old), into)
    files.remove_class(old)
    return Change(f"Merged {old} into {into}", moved.without_class(old))


def remove_class(board: Board, files: Workspace, label: str) -> Change:
    """Take a class and its photos out.

    Raises:
        NotFound: there is no such class.
    """
    board.check(label)
    files.remove_class(label)
    return Change(f"Removed {label}", board.without_class(label))


def move_photos(board: Board, files: Workspace, numbers: Iterable[int], label: str) -> Change:
    """Put photos into another class.

    Raises:
        NotFound: there is no such class or photo.
    """
    photos = board.chosen(numbers)
    board.check(label)
    moved = _moved(board, files, [p for p in photos if p.label != label], label)
    return Change(f"Moved {counted(len(photos))} to {label}", moved)


def remove_photos(board: Board, files: Workspace, numbers: Iterable[int]) -> Change:
    """Take photos out.

    Raises:
        NotFound: there is no such photo.
    """
    photos = board.chosen(numbers)
    for photo in photos:
        if photo.path is not None:
            files.remove(photo.path)
    return Change(f"Removed {counted(len(photos))}", board.without_photos(photos))


def keep_photos(board: Board, files: Workspace, numbers: Iterable[int]) -> Change:
    """Note that photos are in the right class, whatever they look like.

    Raises:
        NotFound: there is no such photo.
    """
    photos = [replace(photo, kept=True) for photo in board.chosen(numbers)]
    return Change(f"Kept {counted(len(photos))}", board.with_photos(photos))


def counted(number: int) -> str:
    """A number of photos, in words."""
    return "a photo" if number == 1 else f"{number} photos"


def _moved(board: Board, files: Workspace, photos: Iterable[Photo], label: str) -> Board:
    moved = []
    for photo in photos:
        path = photo.path and files.move(photo.path, label)
        moved.append(_named(files, replace(photo, label=label, path=path, kept=False)))
    return board.with_photos(moved)


def _named(files: Workspace, photo: Photo) -> Photo:
    """A photo whose name tells where its file lies, if it has one."""
    if photo.path is None:
        return photo
    return replace(photo, name=files.name_of(photo.path))
