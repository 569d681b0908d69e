"""The classes and photos of the page, as an immutable value that edits replace and undo restores.

Nothing here accesses a disk or a network: files are kept by `workspace`, the model by `learning`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from fewshot_lite.core.errors import UsageError
from fewshot_lite.images.folders import is_system_name
from fewshot_lite.personal.bulk.sorting import windows_changes
from fewshot_lite.personal.editing.names import check_known, check_name
from fewshot_lite.serve.errors import NotFound

#: The most bytes of a class's name; file systems allow 255 for a folder.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Photo:
    """A photo of a class."""

    number: int
    """Its identifier on the page, as long as the program runs."""
    label: str
    path: Path | None
    """Its file in the class's folder; None if a model has its features alone."""
    name: str
    """Its name in the model: its relative path. Without a file the name begins with a slash, which
    no relative path does."""
    kept: bool = False
    """Whether the user confirmed that it is in the right class."""


@dataclass(frozen=True)
class Board:
    """Classes, with or without photos, and photos in the order in which they were added."""

    classes: tuple[str, ...] = ()
    photos: tuple[Photo, ...] = ()

    def of_class(self, label: str) -> tuple[Photo, ...]:
        """Return the photos of a class."""
        return tuple(photo for photo in self.photos if photo.label == label)

    def by_numbers(self, numbers: Iterable[int]) -> tuple[Photo, ...]:
        """Return photos by number, each once; raise NotFound if there is none of a number."""
        photos = {photo.number: photo for photo in self.photos}
        try:
            return tuple(photos[number] for number in dict.fromkeys(numbers))
        except KeyError as error:
            number = error.args[0]
            raise NotFound(f"{number}: there is no photo of this number. It may be gone.") from None

    def check(self, label: str) -> None:
        """Raise NotFound if there is no class of this name."""
        try:
            check_known(label, self.classes, "class")
        except UsageError as error:
            raise NotFound(str(error)) from None

    def check_new(self, label: str, *, instead_of: str = "") -> None:
        """Raise UsageError if a new class's name is taken, or not allowed for a folder."""
        others = [name for name in self.classes if name != instead_of]
        if label in others:
            raise UsageError(f"{label!r}: there is a class of this name already.")
        check_new_name(label, others)

    def without_class(self, label: str) -> Board:
        """Return the board without a class and its photos."""
        return Board(
            tuple(name for name in self.classes if name != label),
            tuple(photo for photo in self.photos if photo.label != label),
        )

    def with_photos(self, photos: Iterable[Photo]) -> Board:
        """Return the board with photos replaced by number, and new ones added."""
        new = {photo.number: photo for photo in photos}
        present = tuple(new.pop(photo.number, photo) for photo in self.photos)
        return replace(self, photos=(*present, *new.values()))

    def without_photos(self, photos: Iterable[Photo]) -> Board:
        """Return the board without these photos."""
        removed = {photo.number for photo in photos}
        return replace(self, photos=tuple(p for p in self.photos if p.number not in removed))


def check_new_name(label: str, others: Iterable[str]) -> None:
    """Raise UsageError for names as `check_class_name` does, and for those that Windows changes."""
    check_class_name(label, others)
    if windows_changes(label):
        raise UsageError(
            f"{label!r}: no name for a class: Windows takes it for a device, or drops its last "
            "dot. Give another."
        )


def check_class_name(label: str, others: Iterable[str]) -> None:
    """Raise UsageError for names that are no visible folder's, or too similar to another one."""
    check_name(label, others)
    if is_system_name(label) or "\\" in label or len(label.encode()) > _LONGEST_NAME:
        raise UsageError(
            f"{label[:40]!r}: no name for a class: it has to do for a folder that is not hidden. "
            "Give another."
        )
