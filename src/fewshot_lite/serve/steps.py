"""The records of a session: steps that can be undone, progress, results of uploads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fewshot_lite.serve.board import Board
from fewshot_lite.serve.learning import Learned
from fewshot_lite.serve.workspace import Move


@dataclass(frozen=True)
class Step:
    """A change that can be undone."""

    what: str
    """A description."""
    board: Board | None
    """The board before the change; None if it was made before the program was restarted."""
    learned: Learned | None = None
    """The model before the change; None after a restart."""
    moves: Sequence[Move] = ()
    """The changes of files."""
    kept: Collection[str] = ()
    """Names of the photos that were confirmed before the change."""
    in_files: bool = True
    """Whether files alone are enough to undo it after a restart."""
    of_model: bool = False
    """Whether only the model was changed, which is not kept over a restart."""
    label: str = ""
    """The class, if photos were added."""
    time: float = 0.0
    """The time of the change, by the monotonic clock."""


@dataclass(frozen=True)
class Work:
    """The progress of the model's thread."""

    what: str
    done: int = 0
    total: int = 0
    can_be_cancelled: bool = False


@dataclass(frozen=True)
class Added:
    """The result of an upload: the photo's number, or the problem."""

    name: str
    """The sender's name of the photo."""
    number: int | None = None
    problem: str | None = None
