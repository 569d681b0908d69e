"""One step of meta-training: tasks in, the sum of their gradients over all ranks out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

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
    vectorised_gradients,
)
from fewshot_lite.training.gradients import GradientSum
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.meta_setup import Setup
from fewshot_lite.training.prefetch import Prefetch


@dataclass(frozen=True)
class StepResult:
    """Figures of all tasks of a step, the same on all ranks."""

    losses: list[float]
    accuracies: list[float]
    exact: int
    """Tasks with no more than H support images, all of which LITE back-propagated."""
    negative_curvature: int
    """The number of iMAML's tasks whose solution stopped at negative curvature."""

    @property
    def finite(self) -> bool:
        """Whether all are numbers."""
        return all(map(math.isfinite, [*self.losses, *self.accuracies]))


def step_gradients(
    setup: Setup,
    config: MetaTrainConfig,
    numbers: range,
    tasks: Prefetch,
    gradients: GradientSum,
    ranks: Ranks,
) -> StepResult:
    """Leave the mean gradient of the tasks of these numbers in the learner's `.grad`s.

    Args:
        tasks: hands out this rank's share of the tasks, in order.
        gradients: sums up those of the learner.

    Raises:
        FewshotError: on all ranks, for what failed on one.
    """
    learner, scale = setup.learner, 1 / len(numbers)
    learner.zero_grad(set_to_none=True)
    table = torch.zeros(len(numbers), 4, dtype=torch.float64)
    mine = ranks.share(range(len(numbers)))

    def work() -> None:
        together = []
        if isinstance(learner, GradientLearner) and config.vectorise:
            together = vectorised_gradients(learner, [tasks.next() for _ in mine])
        for row, position in enumerate(mine):
            exact = False
            if isinstance(learner, GradientLearner) and config.vectorise:
                done = gradient_step(learner, together[row], scale=scale)
            else:
                task = tasks.next()
                exact = all_back_propagated(setup, config, task)
                done = task_step(setup, config, task, numbers[position], scale)
            gradients.add()
            row_of = [done.loss, done.accuracy, exact, done.negative_curvature]
            table[position] = torch.tensor(row_of, dtype=torch.float64)

    ranks.together(work)
    gradients.finish(ranks)
    losses, accuracies, exact, negative = ranks.sum(table).unbind(1)
    return StepResult(
        losses.tolist(), accuracies.tolist(), int(exact.sum()), int(negative.nansum())
    )


def task_step(
    setup: Setup, config: MetaTrainConfig, task: Task, number: int, scale: float
) -> LiteStep:
    """Add the gradient of task `number` to the `.grad`s, by LITE or by a baseline."""
    learner, passes = setup.learner, setup.passes
    random = generator(config.seed, Stream.BACK_PROPAGATED, number)
    if config.gradient == "small-task":
        task = small_task(task, config.h or len(task.support), random)
    if isinstance(learner, GradientLearner):
        if config.gradient == "full":
            return gradient_step(learner, unrolled_gradient(learner, task), scale=scale)
        h = config.h if config.gradient == "lite" else None
        found = meta_gradient(learner, task, random, h=h, micro_batch=passes.micro_batch)
        return gradient_step(learner, found, scale=scale)
    if config.gradient != "lite":
        return full_step(
            learner, task, penalty_weight=config.penalty, scale=scale, cast=passes.cast
        )
    return lite_step(
        learner,
        task,
        random,
        h=config.h,
        sampler=config.sampling,
        micro_batch=passes.micro_batch,
        penalty_weight=config.penalty,
        scale=scale,
        cast=passes.cast,
    )


def all_back_propagated(setup: Setup, config: MetaTrainConfig, task: Task) -> bool:
    """Whether H images would be sampled, but a task has no more than that."""
    learner = setup.learner
    sampled = config.gradient == "lite"
    if isinstance(learner, GradientLearner):  # the others look at all images in any case
        sampled = sampled and learner.name == "maml" and not learner.coupled
    return sampled and config.h is not None and len(task.support) <= config.h
