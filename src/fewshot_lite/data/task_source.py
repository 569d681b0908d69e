"""Where the tasks of meta-training come from: task number in, task out; and validation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.progress import Progress, Report
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.core.ranks import Place, Ranks, place
from fewshot_lite.data.augment import Augmentation, Shift, draw_shift, draw_views
from fewshot_lite.data.episodes import (
    Episode,
    EpisodeConfig,
    Pool,
    sample_instances,
    sample_training_episode,
    usable_pools,
)
from fewshot_lite.data.image_cache import Notify, cached_images
from fewshot_lite.data.prepared import PreparedTask
from fewshot_lite.data.replacing import Replaced, read_episode
from fewshot_lite.data.store import ImageStore
from fewshot_lite.evaluation.accuracy import Score, evaluate, fixed_episodes
from fewshot_lite.images.folders import LabelledImages
from fewshot_lite.images.photo import Source
from fewshot_lite.learners.base import Cast, Learner
from fewshot_lite.learners.task import Task
from fewshot_lite.training.meta_config import MetaTrainConfig

#: Bytes of decoded images to keep, all data sets together; beyond, they are read at each use.
_MEMORY = 8 * 2**30

#: Of one image, in tasks whose classes are single images: as from another place, in another light.
_OTHER_VIEWS = Augmentation(min_area=0.35, rotation=20.0, colour=0.4)

#: Validation: this many tasks, fixed by the seed, of so many support and query images a class.
_VALIDATION_TASKS = 50
_SHOT = _QUERIES = 5


@dataclass(frozen=True)
class Cache:
    """Where resized images are kept between runs."""

    folder: Path
    notify: Notify | None = None
    """Told why what lay there was not used."""


class TrainingTasks:
    """Where training tasks come from: task number -> task, always the same one."""

    def __init__(
        self,
        folders: Sequence[LabelledImages],
        config: MetaTrainConfig,
        size: int,
        report: Report | None,
        cache: Cache | None = None,
    ) -> None:
        images = sum(len(folder.paths) for folder in folders)
        opened = [_open(folder, images, config, size, report, cache) for folder in folders]
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

    @property
    def kept(self) -> bool:
        """Whether images are there without decoding."""
        return all(store.kept for store in self._stores)

    def share(self) -> None:
        """Let other processes read the same memory; raises UsageError if it is too small."""
        for store in self._stores:
            store.share()

    def read_with(self, threads: int) -> None:
        """Read photos with so many threads."""
        for store in self._stores:
            store.threads = threads

    def task(self, number: int) -> Task:
        """Training task of this number, augmented, on the CPU."""
        return self.prepare(number).on(torch.device("cpu"))

    def prepare(self, number: int) -> PreparedTask:
        """Training task of this number, not augmented yet.

        Raises:
            FewshotError: a class has too few images left that can be read.
        """
        random = generator(self._config.seed, Stream.TRAINING_TASKS, number)
        apart = generator(self._config.seed, Stream.INSTANCE_TASKS, number)
        if float(torch.rand((), generator=apart)) < self._config.instances:
            return self._prepare_instances(number, apart)
        wanted = sample_training_episode(self.pools, self._episodes, random)
        pool = self.pools[wanted.data_set]
        pixels, episode, replaced = self._read(number, wanted)
        labels = torch.tensor(episode.support_labels + episode.query_labels)
        turns = None
        if pool.name in self._config.rotate:
            turns = torch.randint(4, (episode.classes,), generator=random)[labels]
        views = None
        if self._config.augment:
            flip = torch.full((len(pixels),), pool.name not in self._config.no_flip)
            views = draw_views(Augmentation(min_area=0.5), flip, random)
        return PreparedTask(
            number=number,
            pixels=pixels,
            support_labels=labels[: len(episode.support)],
            query_labels=labels[len(episode.support) :],
            classes=episode.classes,
            size=self._size,
            turns=turns,
            views=views,
            shift=self._shift(random),
            replaced=replaced,
        )

    def _prepare_instances(self, number: int, random: torch.Generator) -> PreparedTask:
        """A task that tells single images apart; each is read once and seen in many views."""
        wanted, shot, queries = sample_instances(self.pools, self._episodes, random)
        pool = self.pools[wanted.data_set]
        pixels, episode, replaced = self._read(number, wanted)
        support, query = (
            torch.tensor(episode.support_labels).repeat_interleave(n) for n in (shot, queries)
        )
        labels = torch.cat([support, query])
        flip = torch.full((len(labels),), pool.name not in self._config.no_flip)
        return PreparedTask(
            number=number,
            pixels=pixels[labels],
            support_labels=support,
            query_labels=query,
            classes=episode.classes,
            size=self._size,
            views=draw_views(_OTHER_VIEWS, flip, random),
            shift=self._shift(random),
            replaced=replaced,
        )

    def _read(self, number: int, episode: Episode) -> tuple[Tensor, Episode, tuple[Replaced, ...]]:
        """The images of an episode; those that fail are replaced, for each task number alike."""
        return read_episode(
            self._stores[episode.data_set],
            self.pools[episode.data_set],
            episode,
            lambda: generator(self._config.seed, Stream.TRAINING_REPLACEMENTS, number),
        )

    def _shift(self, random: torch.Generator) -> Shift | None:
        shifted = float(torch.rand((), generator=random)) < self._config.shifts
        return draw_shift(random) if shifted else None


class ValidationTasks:
    """Fixed 5-way 5-shot tasks of held-out data, a share for each data set."""

    def __init__(
        self,
        folders: Sequence[LabelledImages],
        config: MetaTrainConfig,
        size: int,
        report: Report | None,
        cache: Cache | None = None,
    ) -> None:
        self.pools: list[Pool] = []
        self.left_out: list[tuple[str, list[str]]] = []
        """Data sets of which classes were left out as too small, and those classes."""
        self.on_replaced: Callable[[Replaced], None] = lambda replaced: None
        """Called with an image that could not be read, each time."""
        self._seed = config.seed
        self._runs: list[tuple[str, ImageStore, list[Episode]]] = []
        images = sum(len(folder.paths) for folder in folders)
        for folder in folders:
            store, pool = _open(folder, images, config, size, report, cache)
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
            read = functools.partial(self._read, self.pools[position])
            score = _shared_score(learner, store, episodes, read, micro_batch, cast, ranks)
            scores[name] = round(score.mean, 4)
            if report is not None:
                report(Progress(position + 1, len(self._runs), "Validating", {name: score.mean}))
        return {**scores, "mean": round(sum(scores.values()) / len(scores), 4)}

    def _read(self, pool: Pool, store: ImageStore, episode: Episode) -> Task:
        """The images of an episode as they are; of a damaged one, others each time alike."""
        numbers = episode.support
        pixels, episode, replaced = read_episode(
            store,
            pool,
            episode,
            lambda: generator(self._seed, Stream.VALIDATION_REPLACEMENTS, *numbers),
        )
        for item in replaced:
            self.on_replaced(item)
        split = len(episode.support)
        return Task(
            support=pixels[:split],
            support_labels=torch.tensor(episode.support_labels),
            query=pixels[split:],
            query_labels=torch.tensor(episode.query_labels),
            classes=episode.classes,
        )


def _shared_score(
    learner: Learner,
    store: ImageStore,
    episodes: Sequence[Episode],
    read: Callable[[ImageStore, Episode], Task],
    micro_batch: int,
    cast: Cast,
    ranks: Ranks,
) -> Score:
    """The score of one process that does all the tasks, to the bit."""
    own = ranks.share(range(len(episodes)))
    accuracies = torch.zeros(len(episodes), dtype=torch.float64)

    def score() -> tuple[float, ...]:
        mine = [episodes[number] for number in own]
        scores = evaluate({"": learner}, store, mine, micro_batch=micro_batch, cast=cast, make=read)
        return scores[""].accuracies

    accuracies[list(own)] = torch.tensor(ranks.together(score), dtype=torch.float64)
    return Score(tuple(ranks.sum(accuracies).tolist()))


def _open(
    folder: LabelledImages,
    images: int,
    config: MetaTrainConfig,
    size: int,
    report: Report | None,
    cache: Cache | None,
) -> tuple[ImageStore, Pool]:
    """The images of a data set, and which of them episodes can be drawn from.

    `images` is how many all data sets have: each of ORBIT's many would fit in memory, not all.
    """
    total = len(folder.paths)

    def count(done: int) -> None:
        if report is not None and (done % 100 == 0 or done == total):
            report(Progress(done, total, f"Reading {folder.name}"))

    cached = None
    if cache is not None:
        cached = cached_images(cache.folder, folder, size, on_done=count, notify=cache.notify)
    memory = _MEMORY * total // max(1, images) // place().local_size  # ranks of one machine
    store = ImageStore(folder.paths, size, memory_limit=memory, on_done=count, cached=cached)
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
