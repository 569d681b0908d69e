"""What the page shows: classes and their photos, as one value that edits replace and undo restores.

Nothing here touches a disk or a network; `workspace` keeps files where the board has them, and
`learning` the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from fewshot_lite.core.errors import UsageError
from fewshot_lite.images.folders import is_system_name
from fewshot_lite.personal.editing.names import check_known, check_name
from fewshot_lite.serve.errors import NotFound

#: Bytes of a class's name: disks take 255 for a folder's.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Photo:
    """A photo of a class."""

    number: int
    """By which the page names it, for as long as the program runs."""
    label: str
    path: Path | None
    """Its file, in the class's folder; None of a photo that a model knows by its features alone."""
    name: str
    """What the model calls it: its place in the folder. Without a file it begins with a slash,
    which no place in a folder does."""
    kept: bool = False
    """Whether a person said that it is in the right class."""


@dataclass(frozen=True)
class Board:
    """Classes, with or without photos, and photos in the order they came."""

    classes: tuple[str, ...] = ()
    photos: tuple[Photo, ...] = ()

    def of_class(self, label: str) -> tuple[Photo, ...]:
        """The photos of a class."""
        return tuple(photo for photo in self.photos if photo.label == label)

    def chosen(self, numbers: Iterable[int]) -> tuple[Photo, ...]:
        """Photos by their numbers.

        Raises:
            NotFound: there is none of a number.
        """
        known = {photo.number: photo for photo in self.photos}
        wanted = list(dict.fromkeys(numbers))
        for number in wanted:
            if number not in known:
                raise NotFound(f"{number}: there is no photo of this number. It may be gone.")
        return tuple(known[number] for number in wanted)

    def check(self, label: str) -> str:
        """A class that there is.

        Raises:
            NotFound: there is none of this name.
        """
        try:
            check_known(label, self.classes, "class")
        except UsageError as error:
            raise NotFound(str(error)) from None
        return label

    def check_new(self, label: str, *, instead_of: str = "") -> str:
        """A name for a class that there is not.

        Raises:
            UsageError: it is taken, or will not do for a folder.
        """
        others = [name for name in self.classes if name != instead_of]
        if label in others:
            raise UsageError(f"{label!r}: there is a class of this name already.")
        check_class_name(label, others)
        return label

    def without_class(self, label: str) -> Board:
        """Without a class and its photos."""
        return Board(
            tuple(name for name in self.classes if name != label),
            tuple(photo for photo in self.photos if photo.label != label),
        )

    def with_photos(self, photos: Iterable[Photo]) -> Board:
        """With other photos of these numbers, or, where there are none, with more."""
        changed = {photo.number: photo for photo in photos}
        here = tuple(changed.pop(photo.number, photo) for photo in self.photos)
        return replace(self, photos=(*here, *changed.values()))

    def without_photos(self, photos: Iterable[Photo]) -> Board:
        """Without these photos."""
        gone = {photo.number for photo in photos}
        return replace(self, photos=tuple(p for p in self.photos if p.number not in gone))


def check_class_name(label: str, others: Iterable[str]) -> None:
    """Refuse what cannot be a visible folder's name, and names that cannot be told apart.

    Raises:
        UsageError: it is refused.
    """
    check_name(label, others)
    if is_system_name(label) or "\\" in label or len(label.encode()) > _LONGEST_NAME:
        raise UsageError(
            f"{label[:40]!r}: no name for a class: it has to do for a folder that is not hidden."
        )
