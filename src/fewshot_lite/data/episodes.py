"""Episodes: which images of a data set make up a task.

Training draws way and shots as Meta-Dataset does (Triantafillou et al. 2020, appendix A.2):
variable way, a support set of variable size shared out unevenly. Evaluation draws fixed ways and
shots.
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

#: Images of a class in a task whose classes are single images.
_ALIKE = 3
#: Views of an image in a task whose classes are single images: more are much the same.
_MOST_VIEWS = 5


@dataclass(frozen=True)
class EpisodeConfig:
    """The range of tasks to draw."""

    min_way: int = 5
    max_way: int = 20
    max_support: int = 100
    """Largest support set, all classes together."""
    max_shot: int = 20
    """Most support images of one class."""
    queries: int = 10
    """Most query images of one class."""
    shot: int | None = None
    """Exactly so many support images of each class, and exactly `queries` query images."""


@dataclass(frozen=True)
class Episode:
    """Indices of images in one data set, and labels 0..K-1 of this task's classes."""

    data_set: int
    support: list[int]
    support_labels: list[int]
    query: list[int]
    query_labels: list[int]
    classes: int

    def task(self, images: Tensor) -> Task:
        """The task of its images (N + Q, 3, S, S), support first."""
        split = len(self.support)
        labels = torch.tensor(self.support_labels), torch.tensor(self.query_labels)
        return Task(images[:split], labels[0], images[split:], labels[1], self.classes)


class Pool:
    """The images of one data set that episodes can be drawn from, by class and by group.

    Images of one group (frames of one track or video, views of one object) never lie on both sides
    of an episode. Without groups each image is one of its own.
    """

    def __init__(
        self, folder: LabelledImages, *, unreadable: Sequence[int] = (), tracks: bool = False
    ) -> None:
        """Sort the images.

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
            apart = [key for key in by_group if key in folder.query_groups]
            query = [index for key in apart for index in by_group.pop(key)]
            groups = list(by_group.values())
            # At least one for the support and one for the queries.
            if (groups and query) if folder.query_groups else len(groups) >= 2:
                self.groups.append(groups)
                self.query_only.append(query)
                self.class_names.append(name)

    def most_queries(self, number: int) -> int:
        """Queries of a class that leave it at least as much support."""
        if self.query_only[number]:  # which take nothing from the support
            return len(self.query_only[number])
        return len(self.groups[number]) // 2

    def two_sides(
        self, number: int, queries: int, generator: torch.Generator
    ) -> tuple[list[int], list[int]]:
        """Images of a class for support and for queries, shuffled, no group on both sides."""
        groups, query = self.groups[number], self.query_only[number]
        if not query:
            groups = shuffled(groups, generator)
            while len(query) < queries and len(groups) > 1:
                query, groups = query + groups[0], groups[1:]
        support = [index for group in groups for index in group]
        return shuffled(support, generator), shuffled(query, generator, queries)

    def class_of(self, index: int) -> int:
        """Number of the class that an image is of."""
        for number, groups in enumerate(self.groups):
            if index in self.query_only[number] or any(index in group for group in groups):
                return number
        raise ValueError(f"image {index} is in no episode of {self.name}")

    def others(self, index: int, opposite: Collection[int]) -> list[int]:
        """Images that may stand for one in an episode: of its class, none of a group on the
        opposite side."""
        number = self.class_of(index)
        if index in self.query_only[number]:
            return [other for other in self.query_only[number] if other != index]
        apart = set(opposite)
        free = [group for group in self.groups[number] if apart.isdisjoint(group)]
        return [other for group in free for other in group if other != index]

    def leave_out_small(self, shot: int, queries: int) -> list[str]:
        """Leave out classes that may lack images for such tasks; return their names."""
        small = [k for k in range(self.classes) if not self._has(k, shot, queries)]
        names = [self.class_names[k] for k in small]
        for values in (self.groups, self.query_only, self.class_names):
            for k in reversed(small):
                del values[k]
        return names

    def _has(self, number: int, shot: int, queries: int) -> bool:
        """Whether `two_sides` gives a class enough of both, in whatever order groups are drawn."""
        sizes = [len(group) for group in self.groups[number]]
        if self.query_only[number]:
            return sum(sizes) >= shot and len(self.query_only[number]) >= queries
        support, query = least_images(sizes, queries)
        return support >= shot and query >= queries

    @property
    def classes(self) -> int:
        """Classes with enough images for both sides of an episode."""
        return len(self.groups)


def usable_pools(pools: Sequence[Pool], config: EpisodeConfig) -> list[Pool]:
    """The pools with enough classes.

    Raises:
        FewshotError: none has.
    """
    if config.shot is not None:
        for pool in pools:
            pool.leave_out_small(config.shot, config.queries)
    usable = [pool for pool in pools if pool.classes >= config.min_way]
    if not usable:
        least, remedy = 2, "or lower --min-way"
        if config.shot is not None:
            least, remedy = config.shot + config.queries, "or lower --min-way, --shot or --queries"
        most = max(pools, key=lambda pool: pool.classes)
        raise FewshotError(
            f"Too few classes for tasks of {config.min_way}: the largest data set, {most.name!r}, "
            f"has {most.classes} with at least {least} photos. Add classes, {remedy}."
        )
    return usable


def sample_training_episode(
    pools: Sequence[Pool], config: EpisodeConfig, generator: torch.Generator
) -> Episode:
    """An episode of random way and shots from a random data set."""
    number = integer(0, len(pools) - 1, generator)
    pool = pools[number]
    way = integer(config.min_way, min(config.max_way, pool.classes), generator)
    if config.shot is not None:
        return sample_fixed_episode(pool, way, config.shot, config.queries, generator, number)
    classes = shuffled(range(pool.classes), generator, way)
    # The fewest images of any class bound the queries of all: half of it at most.
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
    """A task whose classes are single images, as one's own things are; its images are their views.

    Up to three images come from a class of the pool, so that some resemble each other, of different
    groups: two frames of one track are no two things.

    Returns:
        episode: its support has one image of each of 0..K-1, and no queries.
        shot, queries: how many views of each image the support set and the queries have.
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
    """An episode of `way` classes with `shot` support and `queries` query images each.

    Raises:
        FewshotError: too few classes, or a class with too few images.
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
    """The thing that an image is one of several views of; the image itself, if nothing tells."""
    if folder.groups:
        return folder.groups[index]
    if not tracks:
        return str(index)
    path = folder.paths[index]
    if not isinstance(path, Path):
        raise UsageError(f"--tracks {folder.name}: its images are not files with names.")
    return path.stem.rpartition("_")[0]


def least_images(groups: Sequence[int], queries: int) -> tuple[int, int]:
    """The images that a class has for support and for queries in the worst order of its groups.

    Groups are taken for queries in random order until there are enough, or one is left: see
    `Pool.two_sides`.

    Args:
        groups: images of each group.
        queries: how many are wanted.
    """
    total = sum(groups)
    most = 0  # that can be taken: nearly enough, and then one group more
    for last in set(groups):
        others = list(groups)
        others.remove(last)
        sums = 1  # bit n: some of the other groups have n images together
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
    """Support images of each class as Meta-Dataset draws them.

    After sample_support_set_size and sample_num_support_per_class of
    meta_dataset/data/sampling.py: a uniform share of what the classes can contribute is the size of
    the support set; each class gets one image, and the rest goes by weights n_k · exp(a_k), a_k
    uniform in [log ½, log 2], rounded down.

    Args:
        images: n_k, images of each class, queries included.
        available: images of each class that are left for the support.
        max_support: largest size (at least one image a class is drawn all the same).
        max_contribution: most that a class adds to the size; it may get more.
        generator: the randomness.
    """
    way = len(available)
    share = 1 - float(torch.rand((), generator=generator))  # (0, 1]
    wanted = sum(math.ceil(share * min(n, max_contribution)) for n in available)
    total = max(way, min(max_support, wanted))
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
