"""The result of a search: the front of accuracy and time, and the pattern that is chosen."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewshot_lite.core import jsons as plain_json
from fewshot_lite.evaluation.lambda_search.measuring import Measured
from fewshot_lite.evaluation.lambda_search.options import SearchOptions

#: Times that differ by less than this share of the full pattern's count as the same.
ALIKE = 0.01


@dataclass(frozen=True)
class Search:
    """The result of a pattern search."""

    model: str
    layers: tuple[str, ...]
    inner_steps: int
    way: int
    options: SearchOptions
    data: tuple[str, ...]
    """Names of the data sets."""
    measured: tuple[Measured, ...]
    """Each pattern once, the full one first."""
    greedy: bool
    finished: bool
    unreadable: dict[Path, str] = field(default_factory=dict)
    """Photos left out, and why."""

    @property
    def full(self) -> Measured:
        """All layers: what the others are compared with."""
        return self.measured[0]

    @property
    def chosen(self) -> Measured:
        """The fastest pattern whose mean accuracy is within `max_drop` of the full one's.

        Of patterns that take the same time within 1 % of the full one's, the most accurate.
        """
        least = self.full.accuracy.mean - self.options.max_drop - 1e-9
        allowed = [m for m in self.measured if m.accuracy.mean >= least]
        fastest = min(m.ratio for m in allowed)
        alike = [m for m in allowed if m.ratio <= fastest + ALIKE]
        return max(alike, key=lambda m: (m.accuracy.mean, -m.ratio))

    @property
    def front(self) -> tuple[Measured, ...]:
        """Patterns that no other one beats in both accuracy and time, the fastest first."""
        found: list[Measured] = []
        for one in sorted(self.measured, key=lambda m: (m.ratio, -m.accuracy.mean)):
            if not found or one.accuracy.mean > found[-1].accuracy.mean:
                found.append(one)
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {
            **self.record(),
            "finished": self.finished,
            "patterns": [m.to_json(self.full) for m in self.measured],
        }

    def record(self) -> dict[str, Any]:
        """The record for a checkpoint: how the search was done, the front, the choice."""
        found = {
            "model": self.model,
            "layers": list(self.layers),
            "data": list(self.data),
            **self.options.__dict__,
            "way": self.way,
            "inner_steps": self.inner_steps,
            "search": "greedy" if self.greedy else "all",
            "full": self.full.to_json(self.full),
            "chosen": self.chosen.to_json(self.full),
            "front": [m.to_json(self.full) for m in self.front],
        }
        # Of one task there is no interval, and JSON has no NaN.
        plain: dict[str, Any] = json.loads(plain_json.dumps(found))
        return plain
