"""The support photos of a model as a page shows them: pictures and names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fewshot_lite.personal.model import PersonalModel
from fewshot_lite.personal.report.html import Html, el, name
from fewshot_lite.personal.report.page import figure, gallery


@dataclass(frozen=True)
class Support:
    """A model's photos by their indices, and files by where they lie."""

    personal: PersonalModel
    labels: tuple[int, ...]
    root: Path | None = None
    """The folder that they are from, if that is known."""
    indices: dict[Path, int] = field(default_factory=dict)

    @classmethod
    def of(cls, personal: PersonalModel) -> Support:
        """Of a model, with files if it was just made."""
        found = personal.adaptation
        labels = tuple(personal.labels.tolist())
        if found is None:
            return cls(personal, labels)
        return cls(personal, labels, found.root, {path: i for i, path in enumerate(found.paths)})

    def name(self, index: int) -> str:
        """A photo's name, or its number where names are not known."""
        if self.personal.photos:
            return self.personal.photos[index]
        return f"{self.label(index)}, photo {index + 1}"

    def label(self, index: int) -> str:
        """The class that a photo is in."""
        return self.personal.class_names[self.labels[index]]

    def jpeg(self, index: int) -> bytes:
        """A photo's thumbnail; empty if there is none."""
        return self.personal.thumbnails[index] if self.personal.thumbnails else b""

    def figure(
        self,
        index: int,
        *,
        taken_for: str | None = None,
        in_class: bool = False,
    ) -> Html:
        """A photo with its name.

        Args:
            index: which.
            taken_for: the class that it was taken for wrongly.
            in_class: it stands below its class, which need not be said again.
        """
        shown = self.name(index)
        if in_class:
            shown = shown.removeprefix(f"{self.label(index)}/")
        caption = [el("span", name(shown), class_="clip")]
        if taken_for is not None:
            caption.append(el("b", "taken for ", name(taken_for)))
        return figure(self.jpeg(index), self.name(index), *caption, wrong=taken_for is not None)

    def reason(self, index: int, *, wrong: bool) -> Html:
        """A photo that another is like: its class above its name; framed if that is wrong."""
        shown = self.name(index).removeprefix(f"{self.label(index)}/")
        caption = (
            el("b", name(self.label(index)), class_="line"),
            el("span", name(shown), class_="line"),
        )
        return figure(self.jpeg(index), self.name(index), *caption, wrong=wrong)

    def gallery(self, indices: Iterable[int]) -> Html:
        """Photos of one class side by side."""
        return gallery(self.figure(i, in_class=True) for i in indices)

    def file(self, path: Path) -> Html:
        """A file of the folder, as a picture where it is one of the photos."""
        index = self.indices.get(path)
        if index is not None:
            return self.figure(index)
        return figure(b"", self.spelled(path), el("span", name(self.spelled(path)), class_="clip"))

    def spelled(self, path: Path) -> str:
        """A file's name, without the folder that all are in."""
        if self.root is not None and path.is_relative_to(self.root):
            return path.relative_to(self.root).as_posix()
        return str(path)
