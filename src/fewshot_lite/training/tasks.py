"""Training tasks by number, and the choice of classes to train and validate on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.progress import Report, counting
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.core.ranks import place
from fewshot_lite.data.augment import Augmentation, Shift, draw_shift, draw_views
from fewshot_lite.data.episode_images import Replaced, read_episode
from fewshot_lite.data.episodes import (
    Episode,
    EpisodeConfig,
    Pool,
    sample_instances,
    sample_training_episode,
    usable_pools,
)
from fewshot_lite.data.image_cache import Notify, cached_images
from fewshot_lite.data.prepared_task import PreparedTask
from fewshot_lite.data.store import ImageStore
from fewshot_lite.images.folders import LabelledImages
from fewshot_lite.images.photo import Source
from fewshot_lite.learners.task import Task
from fewshot_lite.training.meta_config import MetaTrainConfig

#: Bytes of decoded images kept in memory for all data sets; the others are decoded at each use.
_MEMORY = 8 * 2**30

#: Views of one image in tasks whose classes are single images: another place, another light.
_OTHER_VIEWS = Augmentation(min_area=0.35, rotation=20.0, colour=0.4)


@dataclass(frozen=True)
class Cache:
    """The cache of resized images."""

    folder: Path
    notify: Notify | None = None
    """Called with the reason why an existing cache file was not used."""


class TrainingTasks:
    """The sequence of training tasks: each number stands for the same task at every time."""

    def __init__(
        self,
        folders: Sequence[LabelledImages],
        config: MetaTrainConfig,
        size: int,
        report: Report | None,
        cache: Cache | None = None,
    ) -> None:
        opened = list(open_data_sets(folders, config, size, report, cache))
        names = [item.name for item in fields(EpisodeConfig)]
        episodes = EpisodeConfig(**{name: getattr(config, name) for name in names})
        self.pools = usable_pools([pool for _, pool in opened], episodes)
        self._stores = [store for store, pool in opened if pool in self.pools]
        self._config, self._episodes, self._size = config, episodes, size

    @property
    def images(self) -> int:
        """Number of images in all usable data sets."""
        return sum(len(store) for store in self._stores)

    @property
    def unreadable(self) -> list[tuple[Source, str]]:
        """Photos that were left out, each with its reason."""
        return [photo for store in self._stores for photo in store.unreadable]

    @property
    def classes(self) -> int:
        """Number of classes that tasks are drawn from."""
        return sum(pool.classes for pool in self.pools)

    @property
    def kept(self) -> bool:
        """Whether all images are available without decoding."""
        return all(store.kept for store in self._stores)

    def share(self) -> None:
        """Move images to shared memory; raise UsageError if it is too small."""
        for store in self._stores:
            store.share()

    def read_with(self, threads: int) -> None:
        """Set the number of threads that read photos."""
        for store in self._stores:
            store.threads = threads

    def task(self, number: int) -> Task:
        """Return the task with this number, augmented, on the CPU."""
        return self.prepare(number).on(torch.device("cpu"))

    def prepare(self, number: int) -> PreparedTask:
        """Return the task with this number, not augmented yet.

        Raises:
            FewshotError: a class has too few readable images left.
        """
        random = generator(self._config.seed, Stream.TRAINING_TASKS, number)
        instance_random = generator(self._config.seed, Stream.INSTANCE_TASKS, number)
        if float(torch.rand((), generator=instance_random)) < self._config.instances:
            return self._prepare_instances(number, instance_random)
        sampled = sample_training_episode(self.pools, self._episodes, random)
        pool = self.pools[sampled.data_set]
        pixels, episode, replaced = self._read(number, sampled)
        labels = torch.tensor(episode.support_labels + episode.query_labels)
        turns = None
        if pool.name in self._config.rotate:
            turns = torch.randint(4, (episode.classes,), generator=random)[labels]
        views = None
        if self._config.augment:
            flip = torch.full((len(pixels),), pool.name not in self._config.no_flip)
            views = draw_views(Augmentation(min_area=0.5), flip, random)
        return PreparedTask(
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
        """Return a task whose classes are single images; each is read once, for all its views."""
        sampled, shot, queries = sample_instances(self.pools, self._episodes, random)
        pool = self.pools[sampled.data_set]
        pixels, episode, replaced = self._read(number, sampled)
        support, query = (
            torch.tensor(episode.support_labels).repeat_interleave(n) for n in (shot, queries)
        )
        labels = torch.cat([support, query])
        flip = torch.full((len(labels),), pool.name not in self._config.no_flip)
        return PreparedTask(
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
        """Read the images of an episode; replacements of unreadable ones depend on the number."""
        return read_episode(
            self._stores[episode.data_set],
            self.pools[episode.data_set],
            episode,
            lambda: generator(self._config.seed, Stream.TRAINING_REPLACEMENTS, number),
        )

    def _shift(self, random: torch.Generator) -> Shift | None:
        shifted = float(torch.rand((), generator=random)) < self._config.shifts
        return draw_shift(random) if shifted else None


def open_data_sets(
    folders: Sequence[LabelledImages],
    config: MetaTrainConfig,
    size: int,
    report: Report | None,
    cache: Cache | None,
) -> Iterator[tuple[ImageStore, Pool]]:
    """Yield the store of each data set, and the pool to sample episodes from."""
    # Memory is divided among data sets (ORBIT has many) and among the ranks of a machine.
    images = max(1, sum(len(folder.paths) for folder in folders)) * place().local_size
    for folder in folders:
        total = len(folder.paths)
        count, cached = counting(report, total, f"Reading {folder.name}"), None
        if cache is not None:
            cached = cached_images(cache.folder, folder, size, on_done=count, notify=cache.notify)
        memory = _MEMORY * total // images
        store = ImageStore(folder.paths, size, memory_limit=memory, on_done=count, cached=cached)
        tracks = folder.name in config.tracks
        yield store, Pool(folder, unreadable=list(store.problems), tracks=tracks)


def unseen_classes(folder: LabelledImages, seen: dict[str, list[str]] | None) -> LabelledImages:
    """Return a data set without the classes that a backbone was trained on.

    Args:
        seen: these classes, by name of the data set; None if the backbone's file has no record.

    Raises:
        UsageError: `seen` is None.
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
    """Split off every tenth class (at least `least`) for validation, if enough remain to train."""
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
