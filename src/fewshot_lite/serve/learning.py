"""A personal model that follows a board: the head at once, all of it when it is asked to adapt.

The functions are those of `adapt` and `add`: `MetaModel.adapt_to` on the photos' files, and
`editing.arrange`, which fits the head to features that are known. Features of a photo are computed
once for a network and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from fewshot_lite.core.config import Refine
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.progress import OnDone
from fewshot_lite.images.bit_depths import find_whites, recorded_whites
from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.personal.adapt_options import AdaptOptions
from fewshot_lite.personal.editing.arranging import Placed, arrange, placed
from fewshot_lite.personal.editing.edits import film_kept, rebuilt
from fewshot_lite.personal.embedding import Embedded, embed_photos
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.quality import Quality, assess
from fewshot_lite.personal.support import Support
from fewshot_lite.serve.board import Board


@dataclass(frozen=True)
class Learned:
    """A model, and the photos of a board that it was made from."""

    model: PersonalModel
    rows: tuple[int, ...]
    """Numbers of the photos, in the model's order."""
    quality: Quality
    problems: Mapping[int, str] = field(default_factory=dict)
    """Number of a photo -> why it is not among them."""

    @classmethod
    def of(
        cls, model: PersonalModel, board: Board, problems: Mapping[int, str] | None = None
    ) -> Learned:
        """A model whose photos have the names that they have on a board."""
        numbers = {photo.name: photo.number for photo in board.photos}
        rows = tuple(numbers[name] for name in model.photos)
        return cls(model, rows, assess(model), problems or {})

    def fits(self, board: Board) -> bool:
        """Whether it is what would be learned from a board."""
        labels = self.labels()
        read = [photo for photo in board.photos if photo.number not in self.problems]
        wanted = {photo.number: (photo.label, photo.name) for photo in read}
        names = dict(zip(self.rows, self.model.photos, strict=True))
        return wanted == {number: (labels[number], names[number]) for number in self.rows}

    def labels(self) -> dict[int, str]:
        """The class of each photo, by its number."""
        names = self.model.class_names
        return {n: names[k] for n, k in zip(self.rows, self.model.labels.tolist(), strict=True)}

    def thumbnails(self) -> dict[int, bytes]:
        """Small pictures by the numbers of photos, as far as the model has them."""
        pairs = zip(self.rows, self.model.thumbnails, strict=False)
        return {number: jpeg for number, jpeg in pairs if jpeg}


def enough(board: Board) -> bool:
    """Whether there are photos of two classes."""
    return len({photo.label for photo in board.photos}) > 1


class Learner:
    """Brings a model in line with a board."""

    def __init__(self, root: Path, base: Callable[[], MetaModel]) -> None:
        """Nothing is read yet.

        Args:
            root: the folder that photos' names are places in.
            base: gives the meta-trained model, when it is first needed.
        """
        self._root = root
        self._load = base
        self._network: object = None
        self._embedded: dict[int, Embedded] = {}
        """Every photo that went through that network, by its number."""

    @cached_property
    def base(self) -> MetaModel:
        """The meta-trained model."""
        return self._load()

    def follow(
        self, learned: Learned | None, board: Board, on_done: OnDone | None = None
    ) -> Learned | None:
        """The model of a board's photos: the head fitted anew, the network as it was.

        Where there is no model yet, or gradient steps made it and other photos are asked for, it
        is adapted anew. None if there are no photos of two classes that can be read.

        Raises:
            FewshotError: it cannot be done.
        """
        if not enough(board):
            return None
        if learned is None or self._all_new(learned, board):
            return self.adapt(board, on_done=on_done)
        if learned.fits(board):
            return learned
        if learned.model.adapted_by_gradient:
            return self._renamed(learned, board) or self.adapt(board, on_done=on_done)
        return self._arranged(learned, board, on_done)

    def adapt(
        self,
        board: Board,
        *,
        refine: Refine = "off",
        on_done: OnDone | None = None,
        on_embedded: OnDone | None = None,
        on_fold: OnDone | None = None,
    ) -> Learned | None:
        """Adapt to all photos of a board, as `adapt` does to a folder.

        Raises:
            FewshotError: a photo has no file, or as `MetaModel.adapt_to`.
        """
        if any(photo.path is None for photo in board.photos):
            raise FewshotError(
                "The model was opened without its photos, so that it cannot be adapted anew. Its "
                "classes and photos can be changed all the same."
            )
        given = sorted(board.photos, key=lambda photo: photo.name.split("/"))  # as in a folder
        total = len(given)
        count = (lambda n: on_done(n, total)) if on_done else None
        size = self.base.image_size
        paths = [photo.path for photo in given if photo.path]
        whites = find_whites(paths)
        images, found = decode_pixels(paths, size, on_done=count, whites=whites)
        problems = {given[i].number: why for i, why in found.items()}
        photos = [photo for photo in given if photo.number not in problems]
        names = tuple(sorted({photo.label for photo in photos}))
        if len(names) < 2:
            return None
        support = Support(
            images[[i for i in range(total) if i not in found]],
            tuple(names.index(photo.label) for photo in photos),
            names,
            self._root,
            tuple(photo.path for photo in photos if photo.path),
            whites=whites,
        )
        model = self.base.adapt_to(
            support, AdaptOptions(refine=refine), on_embedded=on_embedded, on_fold=on_fold
        ).accelerate()
        model.contents = replace(model.contents, photos=tuple(photo.name for photo in photos))
        return Learned.of(model, board, problems)

    def _all_new(self, learned: Learned, board: Board) -> bool:
        """Whether no photo is left of those that the network was adapted to."""
        rows = set(learned.rows[: film_kept(learned.model)])
        files = all(photo.path for photo in board.photos)
        return files and not any(photo.number in rows for photo in board.photos)

    def _arranged(self, learned: Learned, board: Board, on_done: OnDone | None) -> Learned | None:
        model = learned.model
        if model.backbone is not self._network:
            self._network, self._embedded = model.backbone, {}
        place = {number: row for row, number in enumerate(learned.rows)}
        for number, known in zip(learned.rows, placed(model), strict=True):
            self._embedded[number] = known.embedded  # may come back by an undo
        problems = dict(learned.problems)
        unknown = [
            p for p in board.photos if p.number not in self._embedded and p.number not in problems
        ]
        paths, whites = [p.path or Path() for p in unknown], recorded_whites(model.provenance)
        found = embed_photos(model, paths, whites, on_embedded=on_done)
        for photo, one in zip(unknown, found, strict=True):
            if isinstance(one, str):
                problems[photo.number] = one
            else:
                self._embedded[photo.number] = one
        photos = [
            Placed(p.label, p.name, self._embedded[p.number], place.get(p.number))
            for p in sorted(board.photos, key=lambda p: place.get(p.number, len(place)))  # as `add`
            if p.number not in problems
        ]
        if len({photo.label for photo in photos}) < 2:
            return None
        before, after = learned.labels(), {p.number: p.label for p in board.photos}
        edit = {
            "added": sum(n not in before for n in after),
            "removed": sum(n not in after for n in before),
            "moved": sum(after.get(n, label) != label for n, label in before.items()),
        }
        return Learned.of(arrange(model, photos, edit).accelerate(model), board, problems)

    def _renamed(self, learned: Learned, board: Board) -> Learned | None:
        """A model that gradient steps made, if its classes have other names and nothing else."""
        after = {p.number: p for p in board.photos if p.number not in learned.problems}
        if set(after) != set(learned.rows):
            return None
        names = {(label, after[number].label) for number, label in learned.labels().items()}
        if len(names) != len(learned.model.class_names) or len({new for _, new in names}) != len(
            names
        ):
            return None
        photos = tuple(after[number].name for number in learned.rows)
        model = rebuilt(
            learned.model,
            replace(learned.model.contents, photos=photos),
            [after[number].label for number in learned.rows],
            film_kept=len(learned.rows),
            edit={"rename": {old: new for old, new in names if old != new}},
        ).accelerate(learned.model)
        return replace(learned, model=model, quality=assess(model))
