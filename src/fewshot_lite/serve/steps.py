"""What a session notes of its work: steps to take back, where the model's thread is, uploads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fewshot_lite.serve.board import Board
from fewshot_lite.serve.learning import Learned
from fewshot_lite.serve.workspace import Move


@dataclass(frozen=True)
class Step:
    """A change that can be taken back."""

    what: str
    """In words."""
    board: Board | None
    """As it was before, ..."""
    learned: Learned | None = None
    """... and so the model; of an earlier start's change neither is known, only files are."""
    moves: Sequence[Move] = ()
    """What was done to files."""
    kept: Collection[str] = ()
    """Names of the photos that were said to be in the right class, before."""
    in_files: bool = True
    """Whether files tell all of it, so that it can be taken back after another start."""
    of_model: bool = False
    """Whether the model alone was changed: the next start has no other one."""
    label: str = ""
    """The class, if photos were added."""
    time: float = 0.0


@dataclass(frozen=True)
class Work:
    """What the model's thread is at."""

    what: str
    done: int = 0
    total: int = 0
    can_be_cancelled: bool = False


@dataclass(frozen=True)
class Added:
    """What became of an uploaded photo."""

    name: str
    """As it was sent."""
    number: int | None = None
    problem: str | None = None
