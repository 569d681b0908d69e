"""The steps that can be undone, stored in the folder for the next run of the program.

Stored are changes of files, by relative paths. A change of photos without files cannot be stored,
and so ends the list of steps that the next run can undo.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from fewshot_lite.serve.board import Board, Photo
from fewshot_lite.serve.steps import Step
from fewshot_lite.serve.workspace import Workspace

_FILE = "undo.json"


def write_steps(workspace: Workspace, steps: Sequence[Step]) -> None:
    """Store steps for the next run."""
    stored: list[dict[str, Any]] = []
    for step in reversed(steps):
        if step.of_model:
            continue
        if not step.in_files:
            break
        moves = [
            [path and path.relative_to(workspace.root).as_posix() for path in move]
            for move in step.moves
        ]
        stored.append({"what": step.what, "moves": moves, "kept": [*step.kept]})
    workspace.write_json(_FILE, stored[::-1])


def read_steps(workspace: Workspace) -> list[Step]:
    """Return the steps of an earlier run; none if they are damaged, or of files elsewhere."""
    try:
        return [
            Step(
                str(stored["what"]),
                None,
                moves=[
                    (source if source is None else _path(workspace, source), _path(workspace, end))
                    for source, end in stored["moves"]
                ],
                kept={str(name) for name in stored["kept"]},
            )
            for stored in workspace.read_json(_FILE) or ()
        ]
    except (TypeError, KeyError, ValueError, OSError):
        return []


def as_on_disk(
    board: Board, workspace: Workspace, kept: Iterable[str], numbers: Iterator[int]
) -> Board:
    """Return the board of the files in the folder; photos at the same path keep their numbers.

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


def _path(workspace: Workspace, relative: Any) -> Path:
    """Return a path in the folder; raise ValueError for one that leads elsewhere."""
    path = workspace.root / PurePosixPath(relative)
    parts = PurePosixPath(relative).parts
    inside = path.parent.resolve().is_relative_to(workspace.root.resolve())
    if not parts or ".." in parts or "\0" in relative or not inside:
        raise ValueError(relative)
    return path
