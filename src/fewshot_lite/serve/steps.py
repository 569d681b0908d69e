"""What a session notes of its work: steps to take back, where the model's thread is, uploads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_lite.serve.board import Board
from fewshot_lite.serve.edits import Change
from fewshot_lite.serve.learning import Learned
from fewshot_lite.serve.workspace import Move


@dataclass(frozen=True)
class Step:
    """A change that can be taken back."""

    change: Change
    board: Board
    """As it was before, ..."""
    learned: Learned | None
    """... and so the model."""
    moves: Sequence[Move] = ()
    """What was done to files."""
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
