"""One step of meta-training: compute the mean gradient of its tasks over all ranks."""

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
    """Results of all tasks of a step, the same on all ranks."""

    losses: list[float]
    accuracies: list[float]
    exact: int
    """Tasks with at most H support images, all of which LITE back-propagated."""
    negative_curvature: int
    """Tasks of iMAML whose solution stopped at negative curvature."""

    @property
    def finite(self) -> bool:
        """Whether all losses and accuracies are finite."""
        return all(map(math.isfinite, [*self.losses, *self.accuracies]))


def step_gradients(
    setup: Setup,
    config: MetaTrainConfig,
    numbers: range,
    tasks: Prefetch,
    gradients: GradientSum,
    ranks: Ranks,
) -> StepResult:
    """Write the mean gradient of the tasks with these numbers to the learner's `.grad`s.

    Args:
        tasks: yields this rank's share of the tasks, in order.
        gradients: accumulates the learner's gradients.

    Raises:
        FewshotError: on all ranks, for a failure on one.
    """
    learner, scale = setup.learner, 1 / len(numbers)
    learner.zero_grad(set_to_none=True)
    table = torch.zeros(len(numbers), 4, dtype=torch.float64)
    positions = ranks.share(range(len(numbers)))

    def work() -> None:
        vectorised = []
        if isinstance(learner, GradientLearner) and config.vectorise:
            vectorised = vectorised_gradients(learner, [tasks.next() for _ in positions])
        for row, position in enumerate(positions):
            exact = False
            if isinstance(learner, GradientLearner) and config.vectorise:
                step = gradient_step(learner, vectorised[row], scale=scale)
            else:
                task = tasks.next()
                exact = all_back_propagated(setup, config, task)
                step = task_step(setup, config, task, numbers[position], scale)
            gradients.add()
            values = [step.loss, step.accuracy, exact, step.negative_curvature]
            table[position] = torch.tensor(values, dtype=torch.float64)

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
        gradient = meta_gradient(learner, task, random, h=h, micro_batch=passes.micro_batch)
        return gradient_step(learner, gradient, scale=scale)
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
    """Return whether the learner samples H support images, but the task has no more than H."""
    learner = setup.learner
    sampled = config.gradient == "lite"
    if isinstance(learner, GradientLearner):  # others than MAML use all images anyway
        sampled = sampled and learner.name == "maml" and not learner.coupled
    return sampled and config.h is not None and len(task.support) <= config.h
