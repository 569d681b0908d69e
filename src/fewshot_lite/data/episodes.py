"""Sample episodes: the images of a data set that make up a task.

Training samples way and shots as in Meta-Dataset (Triantafillou et al. 2020, appendix A.2): a
variable way, and a support set of variable size with uneven classes. Evaluation uses a fixed way
and shot.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.random_streams import integer, shuffled
from fewshot_lite.images.folders import LabelledImages
from fewshot_lite.learners.task import Task

#: Most images from one class in a task whose classes are single images.
_ALIKE = 3
#: Most views per image in such a task; more would be redundant.
_MOST_VIEWS = 5


@dataclass(frozen=True)
class EpisodeConfig:
    """The range of tasks to sample."""

    min_way: int = 5
    max_way: int = 20
    max_support: int = 100
    """Largest support set, all classes together."""
    max_shot: int = 20
    """Most support images per class."""
    queries: int = 10
    """Most query images per class."""
    shot: int | None = None
    """If set, exactly this many support images per class, and exactly `queries` query images."""


@dataclass(frozen=True)
class Episode:
    """Indices of images in one data set, with their labels 0..K-1 in the task."""

    data_set: int
    support: list[int]
    support_labels: list[int]
    query: list[int]
    query_labels: list[int]
    classes: int

    def task(self, images: Tensor) -> Task:
        """Return the task made of this episode's images (N + Q, 3, S, S), support first."""
        split = len(self.support)
        labels = torch.tensor(self.support_labels), torch.tensor(self.query_labels)
        return Task(images[:split], labels[0], images[split:], labels[1], self.classes)


class Pool:
    """The images of one data set to sample episodes from, by class and by group.

    Images of one group (frames of one track or video, views of one object) are never on both sides
    of an episode. Without groups each image is a group of its own.
    """

    def __init__(
        self, folder: LabelledImages, *, unreadable: Sequence[int] = (), tracks: bool = False
    ) -> None:
        """Group the images.

        Args:
            folder: the data set.
            unreadable: indices to leave out.
            tracks: file names are TRACK_FRAME; images of one track form a group.
        """
        self.name = folder.name
        skipped = set(unreadable)
        self.groups: list[list[list[int]]] = []
        self.query_only: list[list[int]] = []
        self.class_names: list[str] = []
        for name, indices in zip(folder.class_names, folder.indices_by_class(), strict=True):
            by_group: dict[str, list[int]] = {}
            for index in indices:
                if index not in skipped:
                    by_group.setdefault(_group(folder, index, tracks), []).append(index)
            query_keys = [key for key in by_group if key in folder.query_groups]
            query = [index for key in query_keys for index in by_group.pop(key)]
            groups = list(by_group.values())
            # At least one group for the support set and one for the queries.
            if (groups and query) if folder.query_groups else len(groups) >= 2:
                self.groups.append(groups)
                self.query_only.append(query)
                self.class_names.append(name)

    def most_queries(self, number: int) -> int:
        """Return the most queries of a class that leave it at least as many support images."""
        if self.query_only[number]:  # these are no support images
            return len(self.query_only[number])
        return len(self.groups[number]) // 2

    def two_sides(
        self, number: int, queries: int, generator: torch.Generator
    ) -> tuple[list[int], list[int]]:
        """Split a class into shuffled support and query images, with no group on both sides."""
        groups, query = self.groups[number], self.query_only[number]
        if not query:
            groups = shuffled(groups, generator)
            while len(query) < queries and len(groups) > 1:
                query, groups = query + groups[0], groups[1:]
        support = [index for group in groups for index in group]
        return shuffled(support, generator), shuffled(query, generator, queries)

    def class_of(self, index: int) -> int:
        """Return the number of an image's class."""
        for number, groups in enumerate(self.groups):
            if index in self.query_only[number] or any(index in group for group in groups):
                return number
        raise ValueError(f"image {index} is in no episode of {self.name}")

    def others(self, index: int, opposite: Collection[int]) -> list[int]:
        """Return images of the same class that may replace one in an episode.

        None is of a group that has images on the `opposite` side.
        """
        number = self.class_of(index)
        if index in self.query_only[number]:
            return [other for other in self.query_only[number] if other != index]
        blocked = set(opposite)
        free = [group for group in self.groups[number] if blocked.isdisjoint(group)]
        return [other for group in free for other in group if other != index]

    def leave_out_small(self, shot: int, queries: int) -> list[str]:
        """Remove classes that may have too few images for such tasks; return their names."""
        small = [k for k in range(self.classes) if not self._has(k, shot, queries)]
        names = [self.class_names[k] for k in small]
        for values in (self.groups, self.query_only, self.class_names):
            for k in reversed(small):
                del values[k]
        return names

    def _has(self, number: int, shot: int, queries: int) -> bool:
        """Return whether `two_sides` gives a class enough of both for any order of its groups."""
        sizes = [len(group) for group in self.groups[number]]
        if self.query_only[number]:
            return sum(sizes) >= shot and len(self.query_only[number]) >= queries
        support, query = least_images(sizes, queries)
        return support >= shot and query >= queries

    @property
    def classes(self) -> int:
        """Number of classes with images for both sides of an episode."""
        return len(self.groups)


def usable_pools(pools: Sequence[Pool], config: EpisodeConfig) -> list[Pool]:
    """Return the pools with enough classes; raise FewshotError if there are none."""
    if config.shot is not None:
        for pool in pools:
            pool.leave_out_small(config.shot, config.queries)
    usable = [pool for pool in pools if pool.classes >= config.min_way]
    if not usable:
        least, lower = 2, ["--min-way"] if config.min_way > 2 else []
        if config.shot is not None:
            least = config.shot + config.queries
            lower += ["--shot", "--queries"]
        remedy = f", or lower {' or '.join(lower)}" if lower else " or photos"
        most = max(pools, key=lambda pool: pool.classes)
        raise FewshotError(
            f"Too few classes for tasks of {config.min_way}: the largest data set, {most.name!r}, "
            f"has {most.classes} with at least {least} photos. Add classes{remedy}."
        )
    return usable


def sample_training_episode(
    pools: Sequence[Pool], config: EpisodeConfig, generator: torch.Generator
) -> Episode:
    """Sample an episode of random way and shots from a random data set."""
    number = integer(0, len(pools) - 1, generator)
    pool = pools[number]
    way = integer(config.min_way, min(config.max_way, pool.classes), generator)
    if config.shot is not None:
        return sample_fixed_episode(pool, way, config.shot, config.queries, generator, number)
    classes = shuffled(range(pool.classes), generator, way)
    # The smallest class limits the queries of all classes to half of its images.
    queries = max(1, min(config.queries, *(pool.most_queries(c) for c in classes)))
    sides = [pool.two_sides(c, queries, generator) for c in classes]
    available = [min(len(support), config.max_shot) for support, _ in sides]
    shots = uneven_shots(
        available,
        available,
        max_support=config.max_support,
        max_contribution=config.max_shot,
        generator=generator,
    )
    return _episode(number, [(s[:n], q) for n, (s, q) in zip(shots, sides, strict=True)])


def sample_instances(
    pools: Sequence[Pool], config: EpisodeConfig, generator: torch.Generator
) -> tuple[Episode, int, int]:
    """Sample a task whose classes are single images and whose images are views of them.

    Up to three images, of different groups, come from the same class of the pool, so that some of
    the task's classes resemble each other.

    Returns:
        episode: one support image of each class 0..K-1, and no queries.
        shot, queries: views of each image in the support and in the query set.
    """
    number = integer(0, len(pools) - 1, generator)
    pool = pools[number]
    way = integer(config.min_way, config.max_way, generator)
    images: list[int] = []
    for groups in shuffled(pool.groups, generator):
        if len(images) >= way:
            break
        for group in shuffled(groups, generator, _ALIKE):
            images.append(group[integer(0, len(group) - 1, generator)])
    images = images[:way]
    way = len(images)
    most = max(1, min(config.max_shot, config.max_support // way, _MOST_VIEWS))
    shot = integer(1, most, generator) if config.shot is None else config.shot
    queries = min(config.queries, _MOST_VIEWS) if config.shot is None else config.queries
    return Episode(number, images, list(range(way)), [], [], way), shot, queries


def sample_fixed_episode(
    pool: Pool, way: int, shot: int, queries: int, generator: torch.Generator, number: int = 0
) -> Episode:
    """Sample an episode of `way` classes with `shot` support and `queries` query images each.

    Raises:
        FewshotError: there are too few classes, or a class has too few images.
    """
    if pool.classes < way:
        raise FewshotError(
            f"{pool.name}: {pool.classes} classes are too few for {way}-way tasks. Lower the way."
        )
    sides = []
    for c in shuffled(range(pool.classes), generator, way):
        support, query = pool.two_sides(c, queries, generator)
        if len(support) < shot or len(query) < queries:
            raise FewshotError(
                f"{pool.name}: class {pool.class_names[c]!r} has too few photos for {shot} support "
                f"and {queries} query images. Lower the shots or the queries, or add photos."
            )
        sides.append((support[:shot], query[:queries]))
    return _episode(number, sides)


def _group(folder: LabelledImages, index: int, tracks: bool) -> str:
    """Return the group of an image; one of its own if there is no information about groups."""
    if folder.groups:
        return folder.groups[index]
    if not tracks:
        return str(index)
    path = folder.paths[index]
    if not isinstance(path, Path):
        raise UsageError(f"--tracks {folder.name}: its images are not files with names.")
    return path.stem.rpartition("_")[0]


def least_images(groups: Sequence[int], queries: int) -> tuple[int, int]:
    """Return a class's support and query images for the worst order of its groups.

    `Pool.two_sides` takes groups for the queries in random order, until there are enough or a
    single group is left.

    Args:
        groups: number of images of each group.
        queries: number of query images needed.
    """
    total = sum(groups)
    most = 0  # images taken for queries: just too few, and then one group more
    for last in set(groups):
        others = list(groups)
        others.remove(last)
        sums = 1  # bit n is set if a subset of the other groups has n images
        for other in others:
            sums |= sums << other & (1 << queries) - 1
        most = max(most, last + sums.bit_length() - 1)
    return total - most, total - max(groups, default=0)


def uneven_shots(
    images: list[int],
    available: list[int],
    *,
    max_support: int,
    max_contribution: int,
    generator: torch.Generator,
) -> list[int]:
    """Sample the number of support images of each class as in Meta-Dataset.

    After sample_support_set_size and sample_num_support_per_class of meta_dataset/data/sampling.py:
    the support set's size is a uniform share of what the classes can contribute; each class gets
    one image, and the rest is divided by weights n_k · exp(a_k), a_k uniform in [log ½, log 2],
    rounded down.

    Args:
        images: n_k, images of each class, queries included.
        available: images of each class that remain for the support set.
        max_support: largest size; each class still gets at least one image.
        max_contribution: most that a class adds to the size; it may get more images.
        generator: CPU generator.
    """
    way = len(available)
    share = 1 - float(torch.rand((), generator=generator))  # (0, 1]
    size = sum(math.ceil(share * min(n, max_contribution)) for n in available)
    total = max(way, min(max_support, size))
    noise = math.log(2) * (2 * torch.rand(way, generator=generator) - 1)
    weights = torch.tensor(images, dtype=torch.float32) * noise.exp()
    shares = (weights / weights.sum()).tolist()
    return [min(n, int(s * (total - way)) + 1) for n, s in zip(available, shares, strict=True)]


def _episode(number: int, sides: list[tuple[list[int], list[int]]]) -> Episode:
    return Episode(
        data_set=number,
        support=[i for support, _ in sides for i in support],
        support_labels=[k for k, (support, _) in enumerate(sides) for _ in support],
        query=[i for _, query in sides for i in query],
        query_labels=[k for k, (_, query) in enumerate(sides) for _ in query],
        classes=len(sides),
    )
