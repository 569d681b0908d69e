"""Settings of a pattern search, checked without importing torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_lite.core.config import check_positive, check_seed
from fewshot_lite.core.errors import UsageError
from fewshot_lite.evaluation.names import REFINE, TAKE_PATTERNS, ModelName, parse_models


@dataclass(frozen=True)
class SearchOptions:
    """All that a search depends on besides model, data and the machine's speed."""

    max_drop: float = 0.01
    """Mean accuracy that the chosen pattern may lose, in 0..1."""
    way: int | None = None
    """Classes of a task; None: what a fixed head serves, else 5."""
    shots: int = 5
    """Support images of a class."""
    queries: int = 10
    """Query images of a class."""
    tasks: int = 100
    """Tasks of each data set."""
    seed: int = 0
    """Seed of the tasks."""
    inner_steps: int | None = None
    """T; None: the model's own, of fine-tuning 50, of refinement its usual number."""
    max_patterns: int = 64
    """All 2^L patterns if they are no more than this; else a greedy search measures so many."""

    def check(self) -> None:
        """Raise UsageError for values that no search can have."""
        if not 0 <= self.max_drop <= 1:
            raise UsageError(
                f"--max-drop {self.max_drop}: must be between 0 and 1; 0.01 is one point."
            )
        if self.way is not None and self.way < 2:
            raise UsageError(f"--way {self.way}: must be at least 2.")
        if self.max_patterns < 2:
            raise UsageError(f"--max-patterns {self.max_patterns}: must be at least 2.")
        check_positive(
            shots=self.shots,
            queries=self.queries,
            tasks=self.tasks,
            inner_steps=1 if self.inner_steps is None else self.inner_steps,
        )
        check_seed(self.seed)


def parse_searched(text: str) -> ModelName:
    """The model of a search: a checkpoint, one that is refined, or fine-tuning of its network.

    Raises:
        UsageError: as `parse_models`, or a baseline without gradient steps through layers.
    """
    (name,) = parse_models([text])
    if name.baseline is not None and name.baseline not in (REFINE, *TAKE_PATTERNS):
        raise UsageError(
            f"{text}: {name.baseline} updates no layers of a network. {what_to_give()}"
        )
    return name


def what_to_give(names: Sequence[str] = (REFINE, *TAKE_PATTERNS)) -> str:
    """The models that can be searched, for messages."""
    others = " or ".join(f"{name}:MODEL" for name in names)
    return f"Give a checkpoint of maml, fomaml or imaml (meta-train --learner maml), or {others}."
