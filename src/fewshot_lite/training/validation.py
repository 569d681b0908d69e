"""Validation on fixed tasks of held-out classes or users."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from statistics import fmean

import torch

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.progress import Progress, Report
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.core.ranks import Ranks
from fewshot_lite.data.episode_images import Replaced, read_episode
from fewshot_lite.data.episodes import Episode, Pool
from fewshot_lite.data.store import ImageStore
from fewshot_lite.evaluation.accuracy import accuracies_on, fixed_episodes
from fewshot_lite.images.folders import LabelledImages
from fewshot_lite.learners.base import Learner
from fewshot_lite.learners.task import Task
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.tasks import Cache, open_data_sets

#: Number of tasks, fixed by the seed, and their support and query images per class.
_VALIDATION_TASKS = 50
_SHOT = _QUERIES = 5


class ValidationTasks:
    """Fixed 5-way 5-shot tasks of held-out data, 50 for each data set."""

    def __init__(
        self,
        folders: Sequence[LabelledImages],
        config: MetaTrainConfig,
        size: int,
        report: Report | None,
        cache: Cache | None = None,
    ) -> None:
        self.pools: list[Pool] = []
        self.not_validated: list[tuple[str, list[str]]] = []
        """Data sets with classes that were left out as too small, and these classes."""
        self.on_replaced: Callable[[Replaced], None] = lambda replaced: None
        """Called with each image that could not be read."""
        self._seed = config.seed
        self._runs: list[tuple[str, ImageStore, list[Episode]]] = []
        opened = open_data_sets(folders, config, size, report, cache)
        for folder, (store, pool) in zip(folders, opened, strict=True):
            pool.leave_out_small(_SHOT, _QUERIES)
            kept = set(pool.class_names) if pool.classes >= 2 else set()
            not_validated = [name for name in folder.class_names if name not in kept]
            if not_validated:
                self.not_validated.append((folder.name, not_validated))
            if not kept:
                continue
            episodes = fixed_episodes(
                pool,
                way=min(5, pool.classes),
                shot=_SHOT,
                queries=_QUERIES,
                tasks=_VALIDATION_TASKS,
                seed=config.seed,
            )
            self.pools.append(pool)
            self._runs.append((folder.name, store, episodes))
        if config.validate_every and not self._runs:
            raise UsageError(
                f"--validate-every {config.validate_every}: no classes with 10 photos to validate "
                "on. Name a folder with --validate, or leave --validate-every out."
            )

    def run(
        self,
        learner: Learner,
        passes: Passes,
        report: Report | None,
        ranks: Ranks | None = None,
    ) -> dict[str, float]:
        """Return accuracy by data set, and "mean"; ranks share the tasks of each data set."""
        scores: dict[str, float] = {}
        ranks = ranks or Ranks()
        for position, (name, store, episodes) in enumerate(self._runs):
            read = functools.partial(self._read, self.pools[position])
            accuracy = _shared_accuracy(learner, store, episodes, read, passes, ranks)
            scores[name] = round(accuracy, 4)
            if report is not None:
                report(Progress(position + 1, len(self._runs), "Validating", {name: accuracy}))
        return {**scores, "mean": round(sum(scores.values()) / len(scores), 4)}

    def _read(self, pool: Pool, store: ImageStore, episode: Episode) -> Task:
        """Read an episode without augmentation; replacements of unreadable images are fixed."""
        numbers = episode.support
        pixels, episode, replaced = read_episode(
            store,
            pool,
            episode,
            lambda: generator(self._seed, Stream.VALIDATION_REPLACEMENTS, *numbers),
        )
        for item in replaced:
            self.on_replaced(item)
        return episode.task(pixels)


def _shared_accuracy(
    learner: Learner,
    store: ImageStore,
    episodes: Sequence[Episode],
    read: Callable[[ImageStore, Episode], Task],
    passes: Passes,
    ranks: Ranks,
) -> float:
    """Return the mean accuracy over tasks on all ranks, bit-identical to that of one process."""
    numbers = ranks.share(range(len(episodes)))
    accuracies = torch.zeros(len(episodes), dtype=torch.float64)

    def score() -> list[float]:
        tasks = (read(store, episodes[number]) for number in numbers)
        return accuracies_on(tasks, learner, passes)

    accuracies[list(numbers)] = torch.tensor(ranks.together(score), dtype=torch.float64)
    return fmean(ranks.sum(accuracies).tolist())
