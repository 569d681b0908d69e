"""Episodes: which images of a data set make up a task.

Training draws way and shots as Meta-Dataset does (Triantafillou et al. 2020, appendix A.2):
variable way, a support set of variable size shared out unevenly. Evaluation draws fixed ways and
shots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fewshot_lite.data.folders import ImageFolder
from fewshot_lite.errors import FewshotError


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


@dataclass(frozen=True)
class Episode:
    """Indices of images in one data set, and labels 0..K-1 of this task's classes."""

    data_set: int
    support: list[int]
    support_labels: list[int]
    query: list[int]
    query_labels: list[int]
    classes: int


class Pool:
    """The images of one data set that episodes can be drawn from, by class and by group.

    Images of one group (frames of one track or video, views of one object) never lie on both sides
    of an episode. Without groups each image is one of its own.
    """

    def __init__(
        self, folder: ImageFolder, *, unreadable: Sequence[int] = (), tracks: bool = False
    ) -> None:
        """Sort the images.

        Args:
            folder: the data set.
            unreadable: indices to leave out.
            tracks: file names are TRACK_FRAME; images of one track form a group.
        """
        self.name = folder.name
        left_out = set(unreadable)
        self.groups: list[list[list[int]]] = []
        self.class_names: list[str] = []
        for name, indices in zip(folder.class_names, folder.indices_by_class(), strict=True):
            by_group: dict[str, list[int]] = {}
            for index in indices:
                if index not in left_out:
                    stem = folder.paths[index].stem
                    key = stem.rpartition("_")[0] if tracks else str(index)
                    by_group.setdefault(key, []).append(index)
            if len(by_group) >= 2:  # one for the support, one for the queries
                self.groups.append(list(by_group.values()))
                self.class_names.append(name)

    @property
    def classes(self) -> int:
        """Classes with enough images for both sides of an episode."""
        return len(self.groups)


def usable_pools(pools: Sequence[Pool], config: EpisodeConfig) -> list[Pool]:
    """The pools with enough classes.

    Raises:
        FewshotError: none has.
    """
    usable = [pool for pool in pools if pool.classes >= config.min_way]
    if not usable:
        most = max(pools, key=lambda pool: pool.classes)
        raise FewshotError(
            f"Too few classes for tasks of {config.min_way}: the largest data set, {most.name!r}, "
            f"has {most.classes} with at least 2 photos. Add classes, or lower --min-way."
        )
    return usable


def sample_training_episode(
    pools: Sequence[Pool], config: EpisodeConfig, generator: torch.Generator
) -> Episode:
    """An episode of random way and shots from a random data set."""
    number = _integer(0, len(pools) - 1, generator)
    pool = pools[number]
    way = _integer(config.min_way, min(config.max_way, pool.classes), generator)
    classes = torch.randperm(pool.classes, generator=generator)[:way].tolist()
    # The fewest images of any class bound the queries of all: half of it at most.
    smallest = min(len(pool.groups[c]) for c in classes)
    queries = max(1, min(config.queries, smallest // 2))
    sides = [_two_sides(pool.groups[c], queries, generator) for c in classes]
    shots = _shots([len(support) for support, _ in sides], config, generator)
    return _episode(number, [(s[:n], q) for n, (s, q) in zip(shots, sides, strict=True)])


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
    for c in torch.randperm(pool.classes, generator=generator)[:way].tolist():
        support, query = _two_sides(pool.groups[c], queries, generator)
        if len(support) < shot or len(query) < queries:
            raise FewshotError(
                f"{pool.name}: class {pool.class_names[c]!r} has too few photos for {shot} support "
                f"and {queries} query images. Lower the shots or the queries, or add photos."
            )
        sides.append((support[:shot], query[:queries]))
    return _episode(number, sides)


def _two_sides(
    groups: list[list[int]], queries: int, generator: torch.Generator
) -> tuple[list[int], list[int]]:
    """Images for support and for queries, shuffled, no group on both sides."""
    order = torch.randperm(len(groups), generator=generator).tolist()
    query: list[int] = []
    taken = 0
    while len(query) < queries and taken < len(groups) - 1:
        query += groups[order[taken]]
        taken += 1
    support = [index for g in order[taken:] for index in groups[g]]
    return _shuffled(support, generator), _shuffled(query, generator)[:queries]


def _shots(available: list[int], config: EpisodeConfig, generator: torch.Generator) -> list[int]:
    """Support images of each class, uneven, at least one, at most `max_support` in all."""
    way = len(available)
    available = [min(n, config.max_shot) for n in available]
    share = 1 - float(torch.rand((), generator=generator))  # (0, 1]
    wanted = sum(math.ceil(share * n) for n in available)
    total = max(way, min(config.max_support, wanted))
    noise = math.log(2) * (2 * torch.rand(way, generator=generator) - 1)
    weights = torch.tensor(available, dtype=torch.float32) * noise.exp()
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


def _integer(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


def _shuffled(items: list[int], generator: torch.Generator) -> list[int]:
    return [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]
