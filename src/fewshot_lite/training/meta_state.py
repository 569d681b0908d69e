"""How far a run of meta-training has come: what its state holds besides weights and optimiser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.training.averaging import AveragedWeights
from fewshot_lite.training.best import Best
from fewshot_lite.training.meta_config import BY_GRADIENT, MetaTrainConfig
from fewshot_lite.training.meta_step import StepFigures
from fewshot_lite.training.resuming import part
from fewshot_lite.training.run import Averages
from fewshot_lite.training.states import State

#: A run ends after this many steps in a row whose loss is not finite.
_MOST_FAILURES = 5


@dataclass
class Run:
    """Counts, averages and the best weights so far; the same on all ranks."""

    config: MetaTrainConfig
    averaged: AveragedWeights | None = None
    done: int = 0
    """Tasks."""
    averages: Averages = field(default_factory=Averages)
    best: Best = field(default_factory=Best)
    exact: int = 0
    skipped: int = 0
    negative_curvature: int = 0
    failures: int = 0
    """Steps that were skipped, in a row."""

    @property
    def gave_up(self) -> bool:
        """Whether validations have not become better for too long."""
        return 0 < self.config.patience <= self.best.waited

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.done >= self.config.tasks or self.gave_up

    def steps(self) -> Iterator[range]:
        """Numbers of the tasks of each step to come."""
        size, tasks = self.config.tasks_per_step, self.config.tasks
        return (range(n, min(n + size, tasks)) for n in range(self.done, tasks, size))

    def validation_due(self, tasks: int) -> bool:
        """Whether it is time to validate, after a step of so many tasks; also at the end."""
        every = self.config.validate_every
        return every > 0 and (self._passed(every, tasks) or self.done == self.config.tasks)

    def save_due(self, tasks: int) -> bool:
        """Whether to save after a step of so many tasks; at the end it is in any case."""
        return self._passed(self.config.save_every, tasks) and self.done < self.config.tasks

    def _passed(self, period: int, tasks: int) -> bool:
        return self.done // period > (self.done - tasks) // period

    def count(self, figures: StepFigures, *, learned: bool) -> None:
        """Take in a step; `learned` tells whether it was used, or skipped."""
        self.done += len(figures.losses)
        self.exact += figures.exact
        self.negative_curvature += figures.negative_curvature
        if learned:
            self.failures = 0
            for loss, accuracy in zip(figures.losses, figures.accuracies, strict=True):
                self.averages.add(loss=loss, accuracy=accuracy)
            if self.averaged is not None:
                self.averaged.update()
        else:
            self.failures += 1
            self.skipped += 1

    def check(self) -> None:
        """Raise FewshotError if too many steps were skipped in a row."""
        nothing_learned = self.done == self.config.tasks and not self.averages.count
        if self.failures == _MOST_FAILURES or nothing_learned:
            inner = " or --inner-lr" if self.config.learner in BY_GRADIENT else ""
            raise FewshotError(
                f"The loss was not finite in {self.failures} steps in a row (task {self.done}). "
                f"Lower --lr (now {self.config.lr}){inner}, use --precision float32, or take a "
                "backbone that was trained longer."
            )

    def notes(self) -> dict[str, Any]:
        """What JSON can hold of it."""
        notes: dict[str, Any] = {"averages": asdict(self.averages), "best": self.best.notes()}
        notes |= {"exact": self.exact, "skipped": self.skipped}
        notes["negative_curvature"] = self.negative_curvature
        if self.averaged is not None:
            notes["average_updates"] = self.averaged.updates
        return notes

    def tensors(self) -> dict[str, Tensor]:
        """The rest of it."""
        tensors = {f"best.{name}": tensor for name, tensor in self.best.tensors.items()}
        if self.averaged is not None:
            tensors |= {f"average.{name}": value for name, value in self.averaged.tensors.items()}
        return tensors

    def restore(self, state: State) -> None:
        """Go on from what `notes` and `tensors` gave."""
        notes = state.notes
        self.done, self.averages = state.step, Averages(**notes["averages"])
        self.exact, self.skipped = notes["exact"], notes["skipped"]
        self.negative_curvature = notes["negative_curvature"]
        self.best = Best(**notes["best"], tensors=part(state.tensors, "best."))
        if self.averaged is not None:
            self.averaged.restore(part(state.tensors, "average."), notes["average_updates"])
