"""Tasks of one person's photos: how they are drawn, adapted to and scored."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from benchmarks.common import Row, arguments, means
from fewshot_lite.data.store import ImageStore
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel

T = TypeVar("T")
#: Images of a class that are decoded at most.
_MOST = 80


@dataclass(frozen=True)
class Images:
    """Images of a data set, uint8 (N, 3, S, S), and which of them each class has."""

    images: Tensor
    groups: list[list[int]]

    @classmethod
    def read(cls, path: Path, size: int) -> Images:
        folder = scan_classes(path)
        store = ImageStore(folder.paths, size)
        groups: list[list[int]] = []
        chosen: list[int] = []
        for group in folder.indices_by_class():
            good = [i for i in group if i not in store.problems]
            first = len(chosen)
            chosen += Random(0).sample(good, min(_MOST, len(good)))
            groups.append(list(range(first, len(chosen))))
        return cls(store[chosen], groups)

    def any(self, random: Random, among: Sequence[int]) -> Tensor:
        """An image of any of these classes, (3, S, S)."""
        return self.images[random.choice(self.groups[random.choice(among)])]


def deal(
    drawn: Sequence[Sequence[T]], shots: Sequence[int], queries: int | None = None
) -> tuple[list[T], list[int], list[T], list[int]]:
    """Deal out what was drawn of each class: first so many to adapt to, then others to ask about.

    Returns:
        Photos to adapt to, their classes 0..K-1; photos to ask about, their classes.
    """
    support, labels, asked, truth = list[T](), list[int](), list[T](), list[int]()
    for k, (group, shot) in enumerate(zip(drawn, shots, strict=True)):
        others = group[shot:][:queries]
        support, labels = [*support, *group[:shot]], labels + [k] * len(group[:shot])
        asked, truth = [*asked, *others], truth + [k] * len(others)
    return support, labels, asked, truth


class PersonalTask(NamedTuple):
    """One task: a model, and features (B, d) of photos by its network.

    `queries` are held-back photos of the task's classes `truth`, int64 (B,), `held_out` photos of
    other classes of the same data set, `foreign` photos of the other data sets.
    """

    personal: PersonalModel
    queries: Tensor
    truth: Tensor
    held_out: Tensor
    foreign: Tensor


@dataclass(frozen=True)
class Drawing:
    """A model and the data sets that its tasks are drawn from."""

    model: MetaModel
    sets: dict[str, Images]

    @classmethod
    def open(cls, args: argparse.Namespace) -> Drawing:
        """From `args.model` and `args.data`; without gradients, and in one thread."""
        torch.set_grad_enabled(False)
        torch.set_num_threads(1)
        model = MetaModel.load(args.model)
        return cls(model, {path.name: Images.read(path, model.image_size) for path in args.data})

    def task(
        self, name: str, classes: list[int], shots: list[int], args: Any, random: Random
    ) -> PersonalTask:
        """A task of some classes of a data set, with so many photos of each to adapt to.

        Args:
            args: how many `queries` of each class, or as many as there are, and, if it says so,
                `novel` photos of other classes and of other data sets.
        """
        data, groups = self.sets[name], self.sets[name].groups
        drawn = [
            random.sample(groups[k], min(shot + args.queries, len(groups[k])))
            for k, shot in zip(classes, shots, strict=True)
        ]
        support, labels, asked, truth = deal(drawn, shots)
        rest = [k for k in range(len(groups)) if k not in classes]
        others = [other for key, other in self.sets.items() if key != name]
        novel = getattr(args, "novel", 0)
        held_out = [data.any(random, rest) for _ in range(novel if rest else 0)]
        turns = [others[i % len(others)] for i in range(novel if others else 0)]
        foreign = [other.any(random, range(len(other.groups))) for other in turns]
        personal = self.model.adapt(data.images[support], [f"{k:04d}" for k in labels])
        images = torch.cat([data.images[asked], *(x[None] for x in held_out + foreign)])
        features = Passes().map(personal.backbone, images)
        parts = features.split([len(asked), len(held_out), len(foreign)])
        return PersonalTask(personal, parts[0], torch.tensor(truth), parts[1], parts[2])


def task_arguments(doc: str | None, queries: int, **more: Any) -> argparse.Namespace:
    """The command line of a benchmark on such tasks, with more flags of its own."""
    tasks = {"queries": (queries, "a class, at most"), "tasks": 100, "seed": 0}
    return arguments(doc, "model", "data+", way=5, shots=[5, 10], **tasks, **more)


def score(args: argparse.Namespace, of_task: Callable[[PersonalTask], Row]) -> Iterator[Row]:
    """For each number of shots and data set, means over tasks, in percent.

    Tasks have `args.way` classes, or all of a data set that has fewer.
    """
    drawing = Drawing.open(args)
    for shot, (name, images) in product(args.shots, drawing.sets.items()):
        way = min(args.way, len(images.groups))
        found = []
        for number in range(args.tasks):
            random = Random(f"{args.seed}/{name}/{way}/{shot}/{number}")
            classes = random.sample(range(len(images.groups)), way)
            found.append(of_task(drawing.task(name, classes, [shot] * way, args, random)))
        yield {"data": name, "shot": shot} | means(found)
