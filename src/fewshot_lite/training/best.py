"""The best weights of a run by validation, and when to stop looking for better ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class Best:
    """The best validation so far, with the weights that were validated."""

    task: int = 0
    """Tasks done then."""
    scores: dict[str, float] = field(default_factory=dict)
    """Accuracy by data set, and their mean, which decides; empty before the first validation."""
    waited: int = 0
    """Validations since."""
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, task: int, scores: dict[str, float], tensors: Mapping[str, Tensor]) -> bool:
        """Take in a validation; True if it is the best so far (of equals, the first is)."""
        if self.scores and not scores["mean"] > self.scores["mean"]:
            self.waited += 1
            return False
        self.task, self.scores, self.waited = task, scores, 0
        self.tensors = {name: t.detach().to("cpu", copy=True) for name, t in tensors.items()}
        return True

    def notes(self) -> dict[str, Any]:
        """What JSON can hold of it."""
        return {"task": self.task, "scores": self.scores, "waited": self.waited}
