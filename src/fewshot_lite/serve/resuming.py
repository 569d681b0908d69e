"""The state at the start: the photos of a folder and its saved model, or an opened model."""

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

#: The file with the names of photos that the user confirmed to be in the right class.
KEPT = "kept.json"


def load_board(
    workspace: Workspace, numbers: Iterator[int], device: str
) -> tuple[Board, Learned | None]:
    """Return the board of a folder, and the model that was saved there.

    The photos are those on disk, including changes by others, to which the model is then updated,
    and those that the saved model has without files.

    Raises:
        FewshotError: the class folders cannot be read.
    """
    classes, files = workspace.scan()
    saved = workspace.model_file
    photos: dict[str, Photo] = {}
    for label, path in files:
        name = workspace.name_of(path)
        photos[name] = Photo(next(numbers), label, path, name)
    model = _load(saved, device)
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
    on_board = tuple(replace(photo, kept=name in kept) for name, photo in photos.items())
    labels = dict.fromkeys([*classes, *(photo.label for photo in on_board)])
    return Board(tuple(labels), on_board), learned


def board_of(model: PersonalModel, numbers: Iterator[int]) -> tuple[Board, Learned]:
    """Return the board of a model without files, whose photos are renamed accordingly."""
    labels = [model.class_names[k] for k in model.labels.tolist()]
    photos = []
    for label in labels:
        number = next(numbers)
        photos.append(Photo(number, label, None, f"/{label}/{number}"))
    model.contents = replace(model.contents, photos=tuple(photo.name for photo in photos))
    rows = tuple(photo.number for photo in photos)
    learned = Learned(model.accelerate(), rows, assess(model))
    return Board(model.class_names, tuple(photos)), learned


def with_plain_names(model: PersonalModel) -> PersonalModel:
    """Return a copy of a model without the slash that marks names of photos without files."""
    renamed = copy(model)
    names = tuple(name.lstrip("/") for name in model.photos)
    renamed.contents = replace(model.contents, photos=names)
    return renamed


def _load(path: Path, device: str) -> PersonalModel | None:
    """Return the saved model; None if it is damaged, as it can be made from the photos again."""
    if not path.exists():
        return None
    try:
        model = PersonalModel.load(path, device=device)
    except FewshotError:
        return None
    return model.accelerate() if len(set(model.photos)) == len(model.labels) else None


def _newer(path: Path | None, than: Path) -> bool:
    """Return whether a photo was replaced after the model was saved."""
    try:
        return path is not None and path.stat().st_mtime > than.stat().st_mtime
    except OSError:
        return True
