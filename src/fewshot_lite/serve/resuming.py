"""What the page begins with: the photos of a folder and its saved model, or an opened model."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.quality import assess
from fewshot_lite.serve.board import Board, Photo
from fewshot_lite.serve.learning import Learned
from fewshot_lite.serve.workspace import Workspace

#: The file with the names of photos that a person said are in the right class.
KEPT = "kept.json"


def take_up(
    workspace: Workspace, numbers: Iterator[int], device: str
) -> tuple[Board, Learned | None]:
    """The board of a folder, and the model that was saved there.

    The photos are those on disk: what was added or removed meanwhile by others is so here too, and
    the model follows. Photos without files are those that the saved model knows.

    Raises:
        FewshotError: a folder whose class folders cannot be read.
    """
    classes, files = workspace.scan()
    saved = workspace.model_file
    photos: dict[str, Photo] = {}
    for label, path in files:
        name = workspace.name_of(path)
        photos[name] = Photo(next(numbers), label, path, name)
    model = _saved(saved, device)
    learned = None
    if model is not None:
        rows = []
        for name, k in zip(model.photos, model.labels.tolist(), strict=True):
            if name.startswith("/"):
                photos[name] = Photo(next(numbers), model.class_names[k], None, name)
            known = name in photos and not _newer(photos[name].path, saved)
            rows.append(photos[name].number if known else next(numbers))
        learned = Learned(model, tuple(rows), assess(model))
    kept = workspace.read_json(KEPT)
    kept = {name for name in kept if isinstance(name, str)} if isinstance(kept, list) else set()
    found = tuple(replace(photo, kept=name in kept) for name, photo in photos.items())
    labels = dict.fromkeys([*classes, *(photo.label for photo in found)])
    return Board(tuple(labels), found), learned


def board_of(model: PersonalModel, numbers: Iterator[int]) -> tuple[Board, Learned]:
    """The board of a model whose photos have no files here; the model gets their new names."""
    labels = [model.class_names[k] for k in model.labels.tolist()]
    photos = []
    for label in labels:
        number = next(numbers)
        photos.append(Photo(number, label, None, f"/{label}/{number}"))
    model.contents = replace(model.contents, photos=tuple(photo.name for photo in photos))
    rows = tuple(photo.number for photo in photos)
    learned = Learned(model.accelerate(), rows, assess(model))
    return Board(model.class_names, tuple(photos)), learned


def with_names(model: PersonalModel) -> PersonalModel:
    """A model to be handed out: names of photos without files lose their mark."""
    found = copy(model)
    names = tuple(name.lstrip("/") for name in model.photos)
    found.contents = replace(model.contents, photos=names)
    return found


def _saved(path: Path, device: str) -> PersonalModel | None:
    """The saved model; None if it is damaged, for the photos are there."""
    if not path.exists():
        return None
    try:
        model = PersonalModel.load(path, device=device)
    except FewshotError:
        return None
    return model.accelerate() if len(set(model.photos)) == len(model.labels) else None


def _newer(path: Path | None, than: Path) -> bool:
    """Whether a photo was replaced after the model was saved."""
    try:
        return path is not None and path.stat().st_mtime > than.stat().st_mtime
    except OSError:
        return True
