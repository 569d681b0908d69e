"""Accuracy of learners over many tasks, the same for all of them; used for validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from fewshot_lite.core.intervals import half_width
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.data.episodes import Episode, Pool, sample_fixed_episode
from fewshot_lite.evaluation.engine import score_pixels
from fewshot_lite.evaluation.methods import LearnerMethod
from fewshot_lite.learners.base import Learner
from fewshot_lite.learners.task import Task
from fewshot_lite.networks.micro_batches import Passes


@dataclass(frozen=True)
class Score:
    """The accuracies of a learner, one per task."""

    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean accuracy over the tasks."""
        return fmean(self.accuracies)

    @property
    def interval(self) -> float:
        """Half-width of the 95 % interval; NaN if all are equal (see `half_width`)."""
        return half_width(self.accuracies)


def fixed_episodes(
    pool: Pool, *, way: int, shot: int, queries: int, tasks: int, seed: int
) -> list[Episode]:
    """Draw tasks that depend on the seed and their number alone."""
    return [
        sample_fixed_episode(pool, way, shot, queries, generator(seed, Stream.FOLDER_TASKS, number))
        for number in range(tasks)
    ]


def score_learners(
    learners: Mapping[str, Learner],
    tasks: Iterable[Task],
    *,
    passes: Passes = Passes(),
) -> dict[str, Score]:
    """Score learners on the same tasks.

    Args:
        learners: by name.
        tasks: on the CPU, with images of the learners' size; iterated over once.

    Returns:
        The scores by the learner's name.
    """
    methods = [LearnerMethod(name, one, 0, passes) for name, one in learners.items()]
    accuracies: dict[str, list[float]] = {name: [] for name in learners}
    for task in tasks:
        for method in methods:
            score = score_pixels(
                method,
                task.support,
                task.support_labels,
                task.classes,
                [task.query],
                task.query_labels.tolist(),
            )
            accuracies[method.name] += score.units
    return {name: Score(tuple(values)) for name, values in accuracies.items()}
