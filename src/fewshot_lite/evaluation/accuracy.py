"""Accuracy of a learner on fixed tasks, for validation in meta-training."""

from __future__ import annotations

from collections.abc import Iterable

from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.data.episodes import Episode, Pool, sample_fixed_episode
from fewshot_lite.evaluation.engine import score_pixels
from fewshot_lite.evaluation.methods import LearnerMethod
from fewshot_lite.learners.base import Learner
from fewshot_lite.learners.task import Task
from fewshot_lite.networks.micro_batches import Passes


def fixed_episodes(
    pool: Pool, *, way: int, shot: int, queries: int, tasks: int, seed: int
) -> list[Episode]:
    """Draw tasks that depend on the seed and their number alone."""
    return [
        sample_fixed_episode(pool, way, shot, queries, generator(seed, Stream.FOLDER_TASKS, number))
        for number in range(tasks)
    ]


def accuracies_on(tasks: Iterable[Task], learner: Learner, passes: Passes) -> list[float]:
    """Return a learner's accuracy on each task.

    Args:
        tasks: on the CPU, with images of the learner's size; iterated over once.
    """
    method = LearnerMethod(learner.name, learner, 0, passes)
    return [
        score_pixels(
            method,
            task.support,
            task.support_labels,
            task.classes,
            [task.query],
            task.query_labels.tolist(),
        ).units[0]
        for task in tasks
    ]
