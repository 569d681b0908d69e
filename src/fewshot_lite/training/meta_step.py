"""The gradients of one step of meta-training: tasks in, their sum over all ranks out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import starmap

import torch
from torch import Tensor

from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.core.ranks import Ranks
from fewshot_lite.learners.task import Task
from fewshot_lite.lite.baselines import full_step, small_task
from fewshot_lite.lite.step import LiteStep, lite_step
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.meta_gradient import (
    gradient_step,
    meta_gradient,
    unrolled_gradient,
    vectorised_step,
)
from fewshot_lite.training.gradients import GradientSum
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.meta_setup import Setup
from fewshot_lite.training.prefetch import Prefetch


@dataclass(frozen=True)
class StepFigures:
    """Of all tasks of a step, the same on all ranks."""

    losses: list[float]
    accuracies: list[float]
    exact: int
    """Tasks with no more than H support images, all of which LITE back-propagated."""
    negative_curvature: int
    """Of iMAML: tasks whose solution stopped there."""

    @property
    def finite(self) -> bool:
        """Whether all are numbers."""
        return all(map(math.isfinite, [*self.losses, *self.accuracies]))

    @classmethod
    def of(cls, table: Tensor) -> StepFigures:
        """Of float64 (tasks, 4)."""
        losses, accuracies, exact, negative = table.unbind(1)
        return cls(losses.tolist(), accuracies.tolist(), int(exact.sum()), int(negative.nansum()))


class StepGradients:
    """Computes a rank's share of the tasks of each step."""

    def __init__(self, setup: Setup, config: MetaTrainConfig, feed: Prefetch, ranks: Ranks) -> None:
        """Begin with no gradients.

        Args:
            feed: hands out this rank's share of the tasks, in order.
        """
        self._setup, self._config, self._feed, self._ranks = setup, config, feed, ranks
        self._gradients = GradientSum(setup.learner)

    def take(self, numbers: range) -> StepFigures:
        """Leave the mean gradient of the tasks of these numbers in the learner's `.grad`s.

        Raises:
            FewshotError: on all ranks, for what failed on one.
        """
        self._setup.learner.zero_grad(set_to_none=True)
        table = torch.zeros(len(numbers), 4, dtype=torch.float64)
        positions = self._ranks.share(range(len(numbers)))

        def work() -> None:
            mine = [numbers[position] for position in positions]
            outcomes = self._outcomes(mine, scale=1 / len(numbers))
            for position, (outcome, exact) in zip(positions, outcomes, strict=True):
                self._gradients.add()
                row = [outcome.loss, outcome.accuracy, exact, outcome.negative_curvature]
                table[position] = torch.tensor(row, dtype=torch.float64)

        self._ranks.together(work)
        self._gradients.finish(self._ranks)
        return StepFigures.of(self._ranks.sum(table))

    def _outcomes(self, numbers: list[int], *, scale: float) -> Iterator[tuple[LiteStep, bool]]:
        """A task's gradient is in the `.grad`s when its outcome comes, and whether it is exact."""
        learner, config = self._setup.learner, self._config
        tasks = ((number, self._feed.next()) for number in numbers)
        if isinstance(learner, GradientLearner) and config.vectorise:
            steps = vectorised_step(learner, [task for _, task in tasks], scale=scale)
            return ((step, False) for step in steps)
        return starmap(lambda number, task: self._one(number, task, scale), tasks)

    def _one(self, number: int, task: Task, scale: float) -> tuple[LiteStep, bool]:
        learner, config = self._setup.learner, self._config
        all_taken = config.h is not None and len(task.support) <= config.h
        sampled = config.gradient == "lite"
        if isinstance(learner, GradientLearner):  # the others look at all images in any case
            sampled = sampled and learner.name == "maml" and not learner.coupled
        random = generator(config.seed, Stream.BACK_PROPAGATED, number)
        return _task_step(self._setup, task, config, random, scale), all_taken and sampled


def _task_step(
    setup: Setup, task: Task, config: MetaTrainConfig, random: torch.Generator, scale: float
) -> LiteStep:
    """Add one task's gradient to the `.grad`s, by LITE or by a baseline."""
    learner, micro_batch, cast = setup.learner, setup.micro_batch, setup.cast
    if config.gradient == "small-task":
        task = small_task(task, config.h or len(task.support), random)
    if isinstance(learner, GradientLearner):
        if config.gradient == "full":
            return gradient_step(learner, unrolled_gradient(learner, task), scale=scale)
        h = config.h if config.gradient == "lite" else None
        found = meta_gradient(learner, task, random, h=h, micro_batch=micro_batch)
        return gradient_step(learner, found, scale=scale)
    if config.gradient != "lite":
        return full_step(learner, task, penalty_weight=config.penalty, scale=scale, cast=cast)
    return lite_step(
        learner,
        task,
        random,
        h=config.h,
        sampler=config.sampling,
        micro_batch=micro_batch,
        penalty_weight=config.penalty,
        scale=scale,
        cast=cast,
    )
