"""Accuracy over many tasks with a 95 % interval; all learners see exactly the same tasks."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.data.episodes import Episode, Pool, sample_fixed_episode
from fewshot_lite.data.store import ImageStore
from fewshot_lite.learners.base import Cast, Learner
from fewshot_lite.learners.task import Task


@dataclass(frozen=True)
class Score:
    """Accuracies of the tasks, in their order."""

    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean accuracy over the tasks."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def interval(self) -> float:
        """Half-width of the 95 % interval, 1.96·std/√n."""
        if len(self.accuracies) < 2:
            return math.nan
        std = torch.tensor(self.accuracies, dtype=torch.float64).std()
        return float(1.96 * std / math.sqrt(len(self.accuracies)))


def fixed_episodes(
    pool: Pool, *, way: int, shot: int, queries: int, tasks: int, seed: int
) -> list[Episode]:
    """The same tasks whenever asked for, each of a generator of its own."""
    return [
        sample_fixed_episode(pool, way, shot, queries, generator(seed, Stream.FOLDER_TASKS, number))
        for number in range(tasks)
    ]


def make_task(store: ImageStore, episode: Episode) -> Task:
    """The images of an episode, as they are."""
    return Task(
        support=store[episode.support],
        support_labels=torch.tensor(episode.support_labels),
        query=store[episode.query],
        query_labels=torch.tensor(episode.query_labels),
        classes=episode.classes,
    )


def evaluate(
    learners: Mapping[str, Learner],
    store: ImageStore,
    episodes: Sequence[Episode],
    *,
    micro_batch: int = 64,
    cast: Cast = contextlib.nullcontext,
    make: Callable[[ImageStore, Episode], Task] = make_task,
    on_done: Callable[[int, int], None] | None = None,
) -> dict[str, Score]:
    """Score learners on the same tasks.

    Args:
        learners: by the name that their score gets.
        store: the images that the episodes index, at the learners' size.
        make: reads an episode.
        on_done: called with (tasks done, tasks in all).
    """
    accuracies: dict[str, list[float]] = {name: [] for name in learners}
    for number, episode in enumerate(episodes, start=1):
        plain = make(store, episode)
        for name, learner in learners.items():
            task = plain.to(learner.backbone.mean.device)
            classifier = learner.adapt(
                task.support,
                task.support_labels,
                task.classes,
                micro_batch=micro_batch,
                cast=cast,
            )
            correct = classifier.logits(task.query).argmax(1) == task.query_labels
            accuracies[name].append(float(correct.double().mean()))
        if on_done is not None:
            on_done(number, len(episodes))
    return {name: Score(tuple(values)) for name, values in accuracies.items()}
