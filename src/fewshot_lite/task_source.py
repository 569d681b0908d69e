"""Where the tasks of meta-training come from: task number in, task out; and validation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fewshot_lite import training
from fewshot_lite.config import MetaTrainConfig
from fewshot_lite.data.augment import Augmentation, domain_shift, quarter_turns, random_views
from fewshot_lite.data.episodes import (
    Episode,
    EpisodeConfig,
    Pool,
    sample_training_episode,
    usable_pools,
)
from fewshot_lite.data.folders import LabelledImages
from fewshot_lite.data.photos import Source
from fewshot_lite.data.store import ImageStore
from fewshot_lite.errors import UsageError
from fewshot_lite.evaluation import Score, evaluate, fixed_episodes
from fewshot_lite.learners.base import Cast, Learner
from fewshot_lite.ranks import Place, Ranks, place
from fewshot_lite.task import Task
from fewshot_lite.training import Progress, Report

#: Bytes of decoded images to keep, all data sets together; beyond, they are read at each use.
_MEMORY = 8 * 2**30

#: Validation: this many tasks, fixed by the seed, of so many support and query images a class.
_VALIDATION_TASKS = 50
_SHOT = _QUERIES = 5


class TrainingTasks:
    """Where training tasks come from: task number -> task, always the same one."""

    def __init__(
        self,
        folders: Sequence[LabelledImages],
        config: MetaTrainConfig,
        size: int,
        report: Report | None,
    ) -> None:
        images = sum(len(folder.paths) for folder in folders)
        opened = [_open(folder, images, config, size, report) for folder in folders]
        episodes = EpisodeConfig(
            config.min_way,
            config.max_way,
            config.max_support,
            config.max_shot,
            config.queries,
            config.shot,
        )
        self.pools = usable_pools([pool for _, pool in opened], episodes)
        self._stores = [store for store, pool in opened if pool in self.pools]
        self._config, self._episodes, self._size = config, episodes, size

    @property
    def images(self) -> int:
        """Images in all usable data sets."""
        return sum(len(store) for store in self._stores)

    @property
    def unreadable(self) -> list[tuple[Source, str]]:
        """Photos left out, each with its reason."""
        return [
            (store.paths[index], reason)
            for store in self._stores
            for index, reason in store.problems.items()
        ]

    @property
    def classes(self) -> int:
        """Classes that tasks are drawn from."""
        return sum(pool.classes for pool in self.pools)

    def task(self, number: int) -> Task:
        """Training task of this number, augmented."""
        random = training.generator(self._config.seed, 2, number)
        episode = sample_training_episode(self.pools, self._episodes, random)
        views = self._views(episode, random)
        split = len(episode.support)
        return Task(
            support=views[:split],
            support_labels=torch.tensor(episode.support_labels),
            query=views[split:],
            query_labels=torch.tensor(episode.query_labels),
            classes=episode.classes,
        )

    def _views(self, episode: Episode, random: torch.Generator) -> Tensor:
        """Support and query images together: float (N + Q, 3, S, S) in [0, 1]."""
        pixels = self._stores[episode.data_set][episode.support + episode.query]
        name = self.pools[episode.data_set].name
        if name in self._config.rotate:
            turns = torch.randint(4, (episode.classes,), generator=random)
            labels = torch.tensor(episode.support_labels + episode.query_labels)
            pixels = quarter_turns(pixels, turns[labels])
        flip = torch.full((len(pixels),), name not in self._config.no_flip)
        views = pixels.float() / 255
        if self._config.augment:
            views = random_views(pixels, self._size, Augmentation(min_area=0.5), flip, random)
        if float(torch.rand((), generator=random)) < self._config.shifts:
            views = domain_shift(views, random)
        return views


class ValidationTasks:
    """Fixed 5-way 5-shot tasks of held-out data, a share for each data set."""

    def __init__(
        self,
        folders: Sequence[LabelledImages],
        config: MetaTrainConfig,
        size: int,
        report: Report | None,
    ) -> None:
        self.pools: list[Pool] = []
        self.left_out: list[tuple[str, list[str]]] = []
        """Data sets of which classes were left out as too small, and those classes."""
        self._runs: list[tuple[str, ImageStore, list[Episode]]] = []
        images = sum(len(folder.paths) for folder in folders)
        for folder in folders:
            store, pool = _open(folder, images, config, size, report)
            pool.leave_out_small(_SHOT, _QUERIES)
            kept = set(pool.class_names) if pool.classes >= 2 else set()
            left_out = [name for name in folder.class_names if name not in kept]
            if left_out:
                self.left_out.append((folder.name, left_out))
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
        micro_batch: int,
        cast: Cast,
        report: Report | None,
        ranks: Ranks | None = None,
    ) -> dict[str, float]:
        """Accuracy by data set, and their mean; the tasks of each are shared out among ranks."""
        scores: dict[str, float] = {}
        ranks = ranks or Ranks(Place())
        for position, (name, store, episodes) in enumerate(self._runs):
            score = _shared_score(learner, store, episodes, micro_batch, cast, ranks)
            scores[name] = round(score.mean, 4)
            if report is not None:
                report(Progress(position + 1, len(self._runs), "Validating", {name: score.mean}))
        return {**scores, "mean": round(sum(scores.values()) / len(scores), 4)}


def _shared_score(
    learner: Learner,
    store: ImageStore,
    episodes: Sequence[Episode],
    micro_batch: int,
    cast: Cast,
    ranks: Ranks,
) -> Score:
    """The score of one process that does all the tasks, to the bit."""
    own = ranks.share(range(len(episodes)))
    accuracies = torch.zeros(len(episodes), dtype=torch.float64)

    def score() -> tuple[float, ...]:
        mine = [episodes[number] for number in own]
        scores = evaluate({"": learner}, store, mine, micro_batch=micro_batch, cast=cast)
        return scores[""].accuracies

    accuracies[list(own)] = torch.tensor(ranks.together(score), dtype=torch.float64)
    return Score(tuple(ranks.sum(accuracies).tolist()))


def _open(
    folder: LabelledImages, images: int, config: MetaTrainConfig, size: int, report: Report | None
) -> tuple[ImageStore, Pool]:
    """The images of a data set, and which of them episodes can be drawn from.

    `images` is how many all data sets have: each of ORBIT's many would fit in memory, not all.
    """
    total = len(folder.paths)

    def count(done: int) -> None:
        if report is not None and (done % 100 == 0 or done == total):
            report(Progress(done, total, f"Reading {folder.name}"))

    memory = _MEMORY * total // max(1, images) // place().local_size  # ranks of one machine
    store = ImageStore(folder.paths, size, memory_limit=memory, on_done=count)
    tracks = folder.name in config.tracks
    return store, Pool(folder, unreadable=list(store.problems), tracks=tracks)


def unseen_classes(folder: LabelledImages, seen: dict[str, list[str]] | None) -> LabelledImages:
    """The classes of a data set that are not among those a backbone was trained on, by set's name.

    Raises:
        UsageError: the backbone's file does not say what it was trained on (`seen` is None).
    """
    if seen is None:
        raise UsageError(
            "--unseen-only: the backbone's file does not say what it was trained on. Use one that "
            "`fewshot-lite pretrain --leave-out` wrote, or leave the flag out."
        )
    return folder.select(set(folder.class_names) - set(seen.get(folder.name, [])))


def hold_out_classes(
    folders: Sequence[LabelledImages], least: int
) -> tuple[list[LabelledImages], list[LabelledImages]]:
    """Every tenth class for validation (at least `least`), where enough are left for training."""
    train: list[LabelledImages] = []
    held_out: list[LabelledImages] = []
    for folder in folders:
        count = max(least, len(folder.class_names) // 10)
        if len(folder.class_names) < 3 * count:
            train.append(folder)
            continue
        step = len(folder.class_names) / count
        names = {folder.class_names[int(i * step)] for i in range(count)}
        train.append(folder.select(set(folder.class_names) - names))
        held_out.append(folder.select(names))
    return train, held_out
