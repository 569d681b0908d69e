"""Updating of a personal model to a board: the head after every change, the network on request.

It uses the functions of `adapt` and `add`: `MetaModel.adapt_to` on the photos' files, and
`editing.arrange`, which fits the head to known features. The features of a photo are computed once
for each network.
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
    """A model, and the photos of a board that it was fitted to."""

    model: PersonalModel
    rows: tuple[int, ...]
    """Numbers of the photos, in the model's order."""
    quality: Quality
    problems: Mapping[int, str] = field(default_factory=dict)
    """The problems of the photos that could not be read, by number."""

    @classmethod
    def of(
        cls, model: PersonalModel, board: Board, problems: Mapping[int, str] | None = None
    ) -> Learned:
        """Assess a model whose photos have the same names as on the board."""
        numbers = {photo.name: photo.number for photo in board.photos}
        rows = tuple(numbers[name] for name in model.photos)
        return cls(model, rows, assess(model), problems or {})

    def fits(self, board: Board) -> bool:
        """Return whether the model has the photos, labels and names of a board."""
        labels = self.labels()
        readable = [photo for photo in board.photos if photo.number not in self.problems]
        on_board = {photo.number: (photo.label, photo.name) for photo in readable}
        names = dict(zip(self.rows, self.model.photos, strict=True))
        return on_board == {number: (labels[number], names[number]) for number in self.rows}

    def labels(self) -> dict[int, str]:
        """Return the class of each photo, by its number."""
        names = self.model.class_names
        return {n: names[k] for n, k in zip(self.rows, self.model.labels.tolist(), strict=True)}

    def thumbnails(self) -> dict[int, bytes]:
        """Return the model's thumbnails by the numbers of photos."""
        pairs = zip(self.rows, self.model.thumbnails, strict=False)
        return {number: jpeg for number, jpeg in pairs if jpeg}


def has_two_classes(board: Board) -> bool:
    """Return whether there are photos of at least two classes."""
    return len({photo.label for photo in board.photos}) > 1


class Learner:
    """Updates a model to a board."""

    def __init__(self, root: Path, base: Callable[[], MetaModel]) -> None:
        """Keep the arguments; nothing is read yet.

        Args:
            root: the folder that the photos' names are relative to.
            base: returns the meta-trained model; called when it is first needed.
        """
        self._root = root
        self._load = base
        self._network: object = None
        self._embedded: dict[int, Embedded] = {}
        """The features under that network of every photo, by number."""

    @cached_property
    def base(self) -> MetaModel:
        """The meta-trained model."""
        return self._load()

    def follow(
        self, learned: Learned | None, board: Board, on_done: OnDone | None = None
    ) -> Learned | None:
        """Return a model fitted to a board: the head is fitted anew, the network is kept.

        The network is adapted anew if there is no model yet, if none of its photos are left, or if
        it was refined by gradient and photos have changed. None is returned if there are no
        readable photos of two classes.

        Raises:
            FewshotError: adapting failed.
        """
        if not has_two_classes(board):
            return None
        if learned is None or self._all_new(learned, board):
            return self.adapt(board, on_done=on_done)
        if learned.fits(board):
            return learned
        if learned.model.adapted_by_gradient:
            return self._rename(learned, board) or self.adapt(board, on_done=on_done)
        return self._refit(learned, board, on_done)

    def adapt(
        self,
        board: Board,
        *,
        refine: Refine = "off",
        on_done: OnDone | None = None,
        on_embedded: OnDone | None = None,
        on_fold: OnDone | None = None,
    ) -> Learned | None:
        """Adapt network and head to all photos of a board, as `adapt` does to a folder.

        Raises:
            FewshotError: a photo has no file, or as `MetaModel.adapt_to`.
        """
        if any(photo.path is None for photo in board.photos):
            raise FewshotError(
                "The model was opened without its photos, so that it cannot be adapted anew. Its "
                "classes and photos can be changed all the same."
            )
        ordered = sorted(board.photos, key=lambda photo: photo.name.split("/"))  # as in a folder
        total = len(ordered)
        count = (lambda n: on_done(n, total)) if on_done else None
        size = self.base.image_size
        paths = [photo.path for photo in ordered if photo.path]
        whites = find_whites(paths)
        images, unreadable = decode_pixels(paths, size, on_done=count, whites=whites)
        problems = {ordered[i].number: reason for i, reason in unreadable.items()}
        photos = [photo for photo in ordered if photo.number not in problems]
        names = tuple(sorted({photo.label for photo in photos}))
        if len(names) < 2:
            return None
        support = Support(
            images[[i for i in range(total) if i not in unreadable]],
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
        """Return whether all photos have files and none is left that the network was adapted to."""
        rows = set(learned.rows[: film_kept(learned.model)])
        files = all(photo.path for photo in board.photos)
        return files and not any(photo.number in rows for photo in board.photos)

    def _refit(self, learned: Learned, board: Board, on_done: OnDone | None) -> Learned | None:
        """Fit the head to the features of a board's photos, computing those that are missing."""
        model = learned.model
        if model.backbone is not self._network:
            self._network, self._embedded = model.backbone, {}
        row_of = {number: row for row, number in enumerate(learned.rows)}
        for number, known in zip(learned.rows, placed(model), strict=True):
            self._embedded[number] = known.embedded  # also of photos that an undo may bring back
        problems = dict(learned.problems)
        new = [
            p for p in board.photos if p.number not in self._embedded and p.number not in problems
        ]
        paths, whites = [p.path or Path() for p in new], recorded_whites(model.provenance)
        embedded = embed_photos(model, paths, whites, on_embedded=on_done)
        for photo, one in zip(new, embedded, strict=True):
            if isinstance(one, str):
                problems[photo.number] = one
            else:
                self._embedded[photo.number] = one
        photos = [
            Placed(p.label, p.name, self._embedded[p.number], row_of.get(p.number))
            for p in sorted(board.photos, key=lambda p: row_of.get(p.number, len(row_of)))
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

    def _rename(self, learned: Learned, board: Board) -> Learned | None:
        """Rename the classes of a refined model; None if more than names has changed."""
        after = {p.number: p for p in board.photos if p.number not in learned.problems}
        if set(after) != set(learned.rows):
            return None
        names = {(label, after[number].label) for number, label in learned.labels().items()}
        if not len(names) == len({new for _, new in names}) == len(learned.model.class_names):
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
