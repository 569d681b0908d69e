"""Tasks of one person's photos: a personal model adapted to some, and features of others."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import Row, arguments, open_data
from fewshot_lite.learners.base import map_batches
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel

#: Images of a class that are decoded at most.
_MOST = 80


@dataclass(frozen=True)
class PersonalTask:
    """One task; features are those of the adapted backbone."""

    personal: PersonalModel
    queries: Tensor
    """(Q, d), held-back photos of the task's classes."""
    truth: Tensor
    """int64 (Q,)."""
    held_out: Tensor
    """(B, d), photos of other classes of the same data set."""
    foreign: Tensor
    """(B, d), photos of the other data sets."""


@dataclass(frozen=True)
class Images:
    """Images of a data set, uint8 (N, 3, S, S), and which of them each class has."""

    images: Tensor
    groups: list[list[int]]

    @classmethod
    def read(cls, path: Path, size: int) -> Images:
        folder, store, _ = open_data(path, size)
        groups: list[list[int]] = []
        chosen: list[int] = []
        for group in folder.indices_by_class():
            good = [i for i in group if i not in store.problems]
            few = Random(0).sample(good, min(_MOST, len(good)))
            groups.append(list(range(len(chosen), len(chosen) + len(few))))
            chosen += few
        return cls(store[chosen], groups)

    def any(self, rng: Random, among: list[int]) -> Tensor:
        return self.images[rng.choice(self.groups[rng.choice(among)])]


class PersonalTasks:
    """Draws tasks from data sets; the same seed draws the same tasks."""

    def __init__(
        self, model: MetaModel, data: list[Path], seed: int, views: int | None = None
    ) -> None:
        self.model = model
        self.views = views
        self.seed = seed
        self.sets = {path.name: Images.read(path, model.image_size) for path in data}

    def draw(
        self, name: str, *, way: int, shot: int, queries: int, novel: int, tasks: int
    ) -> Iterator[PersonalTask]:
        """Tasks of one data set: `queries` photos a class, `novel` of each kind.

        They have `way` classes, or all of a data set that has fewer.
        """
        data = self.sets[name]
        way = min(way, len(data.groups))
        others = [other for key, other in self.sets.items() if key != name]
        for number in range(tasks):
            rng = Random(f"{self.seed}/{name}/{way}/{shot}/{number}")
            classes = rng.sample(range(len(data.groups)), way)
            rest = [k for k in range(len(data.groups)) if k not in classes]
            support, labels, asked, truth = [], [], [], []
            for k in classes:
                drawn = rng.sample(data.groups[k], min(shot + queries, len(data.groups[k])))
                support += drawn[:shot]
                labels += [f"{k:04d}"] * shot
                asked += drawn[shot:]
                truth += [sorted(classes).index(k)] * (len(drawn) - shot)
            held_out = [data.any(rng, rest) for _ in range(novel if rest else 0)]
            foreign = []
            if others:
                for i in range(novel):
                    other = others[i % len(others)]
                    foreign.append(other.any(rng, list(range(len(other.groups)))))
            personal = self.model.adapt(data.images[support], labels, views=self.views)
            images = torch.cat([data.images[asked], *(x[None] for x in held_out + foreign)])
            features = map_batches(personal.backbone, images, 64)
            parts = features.split([len(asked), len(held_out), len(foreign)])
            yield PersonalTask(personal, parts[0], torch.tensor(truth), parts[1], parts[2])


def task_arguments(doc: str | None, queries: int, **more: Any) -> argparse.Namespace:
    """The command line of a benchmark on such tasks, with more flags of its own."""
    tasks = {"queries": (queries, "a class, at most"), "tasks": 100, "seed": 0}
    return arguments(doc, "model", "data+", way=5, shots=[5, 10], **tasks, **more)


def each_set(
    args: argparse.Namespace, novel: int = 0, views: int | None = None
) -> Iterator[tuple[Row, Iterator[PersonalTask]]]:
    """The beginning of a row, and its tasks, for each number of shots and data set."""
    drawing = PersonalTasks(MetaModel.load(args.model), args.data, args.seed, views)
    for shot in args.shots:
        for name in drawing.sets:
            start = time.perf_counter()
            row: Row = {"data": name, "shot": shot}
            tasks, queries = args.tasks, args.queries
            yield (
                row,
                drawing.draw(
                    name, way=args.way, shot=shot, queries=queries, novel=novel, tasks=tasks
                ),
            )
            row["seconds"] = round(time.perf_counter() - start, 1)
