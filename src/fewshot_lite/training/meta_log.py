"""What a run of meta-training tells beside its checkpoint: the log, TensorBoard, the curves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fewshot_lite.core.figures import check_figure, require_matplotlib
from fewshot_lite.core.files import check_output
from fewshot_lite.core.ranks import Ranks
from fewshot_lite.data.episode_images import Replaced
from fewshot_lite.training import run as training
from fewshot_lite.training.meta_setup import Setup
from fewshot_lite.training.tracking import TrackedLog, check_tensorboard


@dataclass(frozen=True)
class Outputs:
    """Where a run writes."""

    output: Path
    tensorboard: Path | None = None
    plot: Path | None = None

    @property
    def log(self) -> Path:
        """One JSON object a line."""
        return training.log_path(self.output)

    def check(self, *, resume: bool, force: bool) -> None:
        """Refuse what cannot be written or must not be overwritten, before photos are read.

        Raises:
            UsageError, FewshotError: see `training.check_new_run` and `training.check_resume`.
        """
        if resume:
            training.check_resume(self.output)
        else:
            training.check_new_run(self.output, force=force)
        if self.tensorboard is not None:
            check_tensorboard(self.tensorboard)
        if self.plot is not None:
            check_figure(self.plot, self.output)
            check_output(self.plot, force=force or resume, flag="--plot")
            require_matplotlib()


def open_log(
    outputs: Outputs, ranks: Ranks, setup: Setup, settings: dict[str, Any], *, begun: int
) -> TrackedLog:
    """The log of the first rank, with its first lines; the others' takes in nothing.

    Args:
        begun: tasks done so far: a run that goes on appends.
    """
    if not ranks.first:
        return TrackedLog(training.NoLines(), None)
    lines = training.JsonLines(outputs.log, append=begun > 0)
    log = TrackedLog(lines, outputs.tensorboard, begun=begun)
    log.write(event="start", task=begun, config=settings, torch=torch.__version__, ranks=ranks.size)
    for path, problem in setup.train.unreadable:
        log.write(event="unreadable", path=path, reason=problem)
    for name, classes in setup.validation.left_out:
        problem = "too few photos for validation"
        log.write(event="left out", data_set=name, classes=classes, reason=problem)
    return log


class Replacements:
    """Photos that could no longer be read when they were to be used, by whichever rank."""

    def __init__(self, log: TrackedLog, ranks: Ranks, done: Callable[[], int]) -> None:
        """Begin with none.

        Args:
            log: in which each is named once.
            done: how many tasks are.
        """
        self._log, self._ranks, self._done = log, ranks, done
        self._new: dict[str, str] = {}
        self.found: dict[str, str] = {}
        """Reasons by path."""

    def note(self, item: Replaced) -> None:
        """Take in one that this rank met with."""
        self._new[item.source] = item.reason
        if self._ranks.first:
            self._name(item.source, item.reason)

    def exchange(self) -> None:
        """Take in what the other ranks met with."""
        for text in self._ranks.gather(json.dumps(self._new)):
            for path, reason in json.loads(text).items():
                self._name(path, reason)
        self._new.clear()

    def _name(self, path: str, reason: str) -> None:
        if path not in self.found:
            self._log.write(event="replaced", task=self._done(), path=path, reason=reason)
            self.found[path] = reason
