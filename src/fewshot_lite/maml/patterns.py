"""Lambda patterns: the layers that an adaptation updates at each of its steps.

After Khabarlak 2022, "Faster Optimization-Based Meta-Learning Adaptation Phase" (arXiv 2206.05930):
Λ is a binary vector over layers; layers that are not updated need no gradient. Layers here are the
stages of the backbone (`stages`), from the images up, and the head. Only the abstract of the paper
was at hand: how patterns are written, run and searched is this project's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from fewshot_lite.core.errors import UsageError


@dataclass(frozen=True)
class Pattern:
    """The layers that each inner step updates: a row of booleans, one a layer, for each step."""

    rows: tuple[tuple[bool, ...], ...]

    @classmethod
    def parse(cls, text: str, layers: tuple[str, ...], steps: int) -> Pattern:
        """Parse e.g. "00011", or "00011,00001" for two steps.

        Args:
            text: a digit for each layer, from the images up; one row for all steps, or a row for
                each step, separated by commas.
            layers: their names, the head's last.
            steps: inner steps.

        Raises:
            ValueError: not a string.
            UsageError: another number of layers or rows, or a character other than 0 and 1.
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
        """Update all layers from `first` on, at all steps."""
        return cls((tuple(layer >= first for layer in range(layers)),) * steps)

    @property
    def constant(self) -> bool:
        """Whether all steps update the same layers."""
        return len(set(self.rows)) <= 1

    @property
    def updated(self) -> tuple[bool, ...]:
        """Whether any step updates a layer, for each layer."""
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
    """Parse the pattern of a refinement, which updates the head and some stages at every step.

    Args:
        text: a digit for each layer, as `Pattern.parse` takes it; or names of stages separated by
            commas, in which `*` and `?` stand for any text and any character.
        layers: their names from the images up, the head's last.
        first: the first stage that can be updated; those below are computed once.

    Raises:
        UsageError: no stage, an unknown one, one that cannot be updated, or no head.
    """
    wrong, free = f"--refine-pattern {text}", layers[first:-1]
    remedy = f"Name some of {', '.join(free)}; or give film alone."
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
            matches = [layer for layer in layers[:-1] if fnmatchcase(layer, name.strip())]
            if not matches:
                raise UsageError(f"{wrong}: {name.strip() or 'an empty name'}: no stage. {remedy}")
            moved += matches
    if not moved:
        raise UsageError(f"{wrong}: must name a stage. {remedy}")
    low = [layer for layer in moved if layer not in free]
    if low:
        raise UsageError(
            f"{wrong}: {low[0]} cannot move: the base adapts from {free[0]} up, and what lies "
            f"below is computed once. {remedy}"
        )
    return (*(layer in moved for layer in layers[:-1]), True)
