"""What can be undone, kept in the folder for the next start.

Kept are moves of files, by their places in the folder. A change of photos that only a model knows
is in no file; it ends what the next start can take back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from fewshot_lite.serve.board import Board, Photo
from fewshot_lite.serve.steps import Step
from fewshot_lite.serve.workspace import Workspace

#: The file's name.
_STEPS = "undo.json"


def write_steps(workspace: Workspace, steps: Sequence[Step]) -> None:
    """Keep steps for the next start.

    Raises:
        FewshotError: they cannot be written.
    """
    kept: list[dict[str, Any]] = []
    for step in reversed(steps):
        if step.of_model:
            continue
        if not step.in_files:
            break
        moves = [
            [place and place.relative_to(workspace.root).as_posix() for place in move]
            for move in step.moves
        ]
        kept.append({"what": step.what, "moves": moves, "kept": [*step.kept]})
    workspace.write_json(_STEPS, kept[::-1])


def read_steps(workspace: Workspace) -> list[Step]:
    """What an earlier start left; nothing if it cannot be read, or names what lies elsewhere."""
    try:
        return [
            Step(
                str(found["what"]),
                None,
                moves=[
                    (source if source is None else _path(workspace, source), _path(workspace, end))
                    for source, end in found["moves"]
                ],
                kept={str(name) for name in found["kept"]},
            )
            for found in workspace.read_json(_STEPS) or ()
        ]
    except (TypeError, KeyError, ValueError, OSError):
        return []


def as_on_disk(
    board: Board, workspace: Workspace, kept: Iterable[str], numbers: Iterator[int]
) -> Board:
    """The board of what is in the folder now; photos that are where they were keep their numbers.

    Raises:
        FewshotError: the folder cannot be read.
    """
    classes, files = workspace.scan()
    known = {photo.path: photo for photo in board.photos if photo.path}
    photos = [photo for photo in board.photos if not photo.path]
    for label, path in files:
        new = Photo(0, label, path, workspace.name_of(path))
        photos.append(known.get(path) or replace(new, number=next(numbers)))
    kept = set(kept)
    labels = dict.fromkeys([*(c for c in board.classes if c in classes), *classes])
    labels |= dict.fromkeys(photo.label for photo in photos)
    return Board(tuple(labels), tuple(replace(p, kept=p.name in kept) for p in photos))


def _path(workspace: Workspace, place: Any) -> Path:
    """A path within the folder.

    Raises:
        ValueError: it is not within it: somebody else wrote the file.
    """
    path = workspace.root / PurePosixPath(place)
    parts = PurePosixPath(place).parts
    inside = path.parent.resolve().is_relative_to(workspace.root.resolve())
    if not parts or ".." in parts or "\0" in place or not inside:
        raise ValueError(place)
    return path
