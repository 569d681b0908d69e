"""Lambda patterns: which layers an adaptation updates, and at which of its steps.

After Khabarlak 2022, "Faster Optimization-Based Meta-Learning Adaptation Phase" (arXiv 2206.05930):
Λ is a binary vector over layers; what is not updated needs no gradient. Layers here are the stages
of the backbone (`stages`), from the images up, and the head. Of the paper its abstract was at hand,
so that how patterns are written, run and searched is this project's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from fewshot_lite.core.errors import UsageError


@dataclass(frozen=True)
class Pattern:
    """For each inner step, which layers it updates: rows of `layers` booleans."""

    rows: tuple[tuple[bool, ...], ...]

    @classmethod
    def parse(cls, text: str, layers: tuple[str, ...], steps: int) -> Pattern:
        """Read e.g. "00011", or "00011,00001" for two steps.

        Args:
            text: a digit for each layer, those next to the images first; one row for all steps, or
                as many as there are steps, with commas between.
            layers: their names, the head's the last.
            steps: inner steps.

        Raises:
            ValueError: no text.
            UsageError: another number of layers or rows, or something other than 0 and 1.
        """
        if not isinstance(text, str):  # a damaged file
            raise ValueError(f"pattern {text!r}")
        rows = text.split(",")
        for row in rows:
            if set(row) - {"0", "1"} or len(row) != len(layers):
                raise UsageError(
                    f"--pattern {text}: must have {len(layers)} digits 0 or 1, for "
                    f"{', '.join(layers)}."
                )
        if len(rows) not in (1, steps):
            raise UsageError(
                f"--pattern {text}: has {len(rows)} rows, but there are {steps} inner steps. "
                "Give one row for all of them, or one for each."
            )
        chosen = rows * steps if len(rows) == 1 else rows
        return cls(tuple(tuple(digit == "1" for digit in row) for row in chosen))

    @classmethod
    def everything(cls, layers: int, steps: int, first: int = 0) -> Pattern:
        """All layers from the first on, at all steps."""
        return cls((tuple(layer >= first for layer in range(layers)),) * steps)

    @property
    def constant(self) -> bool:
        """Whether all steps update the same layers."""
        return len(set(self.rows)) <= 1

    @property
    def updated(self) -> tuple[bool, ...]:
        """Layers that some step updates."""
        return tuple(any(column) for column in zip(*self.rows, strict=True))

    @property
    def lowest(self) -> int:
        """The first layer that some step updates; the head's index if none does."""
        updated = self.updated
        return updated.index(True) if any(updated) else len(updated) - 1

    def __str__(self) -> str:
        rows = ["".join("01"[digit] for digit in row) for row in self.rows]
        return rows[0] if self.constant else ",".join(rows)


def stages_that_move(text: str, layers: Sequence[str], first: int) -> tuple[bool, ...]:
    """Read the pattern of a refinement, which moves a head and some stages, the same at each step.

    Args:
        text: a digit for each layer, as `Pattern.parse` takes it; or names of stages with commas
            between, in which `*` and `?` stand for any text and any character.
        layers: their names from the images up, the head's the last.
        first: the first stage that can move; what lies below is computed once.

    Raises:
        UsageError: it names no stage, an unknown one, one that cannot move, or leaves the head out.
    """
    wrong, free = f"--refine-pattern {text}", layers[first:-1]
    remedy = f"Name some of {', '.join(free)}."
    if text and set(text) <= {"0", "1"}:
        if len(text) != len(layers):
            raise UsageError(
                f"{wrong}: has {len(text)} digits, must have {len(layers)} for {', '.join(layers)};"
                " or name stages."
            )
        if text[-1] != "1":
            raise UsageError(f"{wrong}: must end in 1: the head moves too.")
        moved = [layer for layer, digit in zip(layers[:-1], text, strict=False) if digit == "1"]
    else:
        moved = []
        for name in text.split(","):
            found = [layer for layer in layers[:-1] if fnmatchcase(layer, name.strip())]
            if not found:
                raise UsageError(f"{wrong}: {name.strip() or 'an empty name'}: no stage. {remedy}")
            moved += found
    if not moved:
        raise UsageError(f"{wrong}: must name a stage. {remedy}")
    low = [layer for layer in moved if layer not in free]
    if low:
        raise UsageError(
            f"{wrong}: {low[0]} cannot move: the base adapts from {free[0]} up, and what lies "
            f"below is computed once. {remedy}"
        )
    return (*(layer in moved for layer in layers[:-1]), True)
