"""Accuracy after labelling photos that `suggest` chose, beside photos drawn at random.

    python -m benchmarks.accuracy.suggesting MODEL DATA [DATA ...] --shots 3 --tasks 40

A task has some photos of each of five classes with labels, a pool of others without, and 20 of each
class held back. Pools are even, with 20 photos of each class, or uneven, with 20, 10, 5, 3 and 2,
as a person's piles are. Accuracy is measured before, after `--ask` photos of the pool drawn at
random were labelled (the mean of five draws), and after as many that `personal.suggesting` chose or
doubt alone. `gain` is the mean difference to random with its 95 % interval over tasks.

The network is adapted to three photos of each class, four times for each data set; the tasks share
these four, each with its own photos, head and calibration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from benchmarks.common import Row, arguments, emit, gain, means, say
from benchmarks.personal_tasks import Images, accuracy, deal, with_rows
from fewshot_lite.heads.base import SupportSet
from fewshot_lite.personal.editing import add_features
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.suggesting import choose

#: Random draws of a task; networks of a data set, the photos of a class that each sees and those
#: that it is adapted to.
_DRAWS, _NETWORKS, _PHOTOS, _ADAPTED_TO = 5, 4, 60, 3
#: Classes of a task, photos of each in pools and held back.
_WAY, _EVEN, _UNEVEN, _HELD = 5, (20,) * 5, (20, 10, 5, 3, 2), 20


@dataclass(frozen=True)
class Photos:
    """Features (N, d) by one adapted network, and classes int64 (N,)."""

    personal: PersonalModel
    features: Tensor
    truth: Tensor


@dataclass(frozen=True)
class PoolTask:
    """A model, photos to choose from and others to measure by."""

    personal: PersonalModel
    pool: Tensor
    labels: Tensor
    asked: Tensor
    truth: Tensor
    rng: Random

    def after(self, rows: list[int]) -> float:
        """Accuracy once these photos of the pool have labels."""
        names = [self.personal.class_names[k] for k in self.labels[rows].tolist()]
        photos = [f"pool {row}" for row in rows]
        changed = add_features(self.personal, self.pool[rows], names, photos).model
        return accuracy(changed, self.asked, self.truth)


def adapted(model: MetaModel, images: Images, name: str, number: int) -> Photos:
    """One of the networks of a data set, and the photos seen by it."""
    rng = Random(f"0/{name}/{number}")
    way = min(_WAY, len(images.groups))
    groups = [images.groups[k] for k in sorted(rng.sample(range(len(images.groups)), way))]
    drawn = [rng.sample(group, min(_PHOTOS, len(group))) for group in groups]
    known, labels, others, truth = deal(drawn, [_ADAPTED_TO] * way)
    names = [str(k) for k in labels]
    personal = model.adapt(images.images[known], names, views=1, thumbnails=False).accelerate()
    features = personal.embed(images.images[known + others])
    return Photos(personal, features, torch.tensor(labels + truth))


def tasks(
    networks: list[Photos], shot: int, sizes: tuple[int, ...], seed: str, number: int
) -> Iterator[PoolTask]:
    for task in range(number):
        rng, photos = Random(f"{seed}/{task}"), networks[task % len(networks)]
        personal, features, truth = photos.personal, photos.features, photos.truth
        classes = len(personal.class_names)
        in_pool = rng.sample(sizes[:classes], classes)
        rows = [(truth == k).nonzero().flatten().tolist() for k in range(classes)]
        drawn = [rng.sample(of_class, len(of_class)) for of_class in rows]
        known = [i for of_class in drawn for i in of_class[:shot]]
        asked = [i for of_class in drawn for i in of_class[shot:][:_HELD]]
        parts = zip(drawn, in_pool, strict=True)
        pool = [i for of_class, size in parts for i in of_class[shot + _HELD :][:size]]
        pool = rng.sample(pool, len(pool))
        given = features[known], truth[known]
        own = with_rows(personal, *given, personal.head.recalibrated(SupportSet(*given, classes)))
        yield PoolTask(own, features[pool], truth[pool], features[asked], truth[asked], rng)


def of_task(task: PoolTask, ask: int) -> dict[str, float]:
    probabilities = task.personal.outputs_of(task.pool).probabilities
    top = probabilities.topk(2, dim=1).values
    draws = [task.after(task.rng.sample(range(len(task.pool)), ask)) for _ in range(_DRAWS)]
    return {
        "before": accuracy(task.personal, task.asked, task.truth),
        "random": sum(draws) / _DRAWS,
        "suggested": task.after(choose(task.personal.features, task.pool, probabilities, ask)),
        "doubt alone": task.after((top[:, 0] - top[:, 1]).argsort()[:ask].tolist()),
    }


def main() -> None:
    args = arguments(
        __doc__,
        "model",
        "data+",
        shots=[3],
        tasks=(40, "a set"),
        ask=(10, "photos to label"),
        seed=0,
    )
    model = MetaModel.load(args.model)
    networks = {}
    for path in args.data:
        images = Images.read(path, model.image_size)
        networks[path.name] = [adapted(model, images, path.name, n) for n in range(_NETWORKS)]
        say(path.name, "embedded")
    rows: list[Row] = []
    for shot in args.shots:
        for kind, sizes in (("even", _EVEN), ("uneven", _UNEVEN)):
            every = []
            for name, photos in networks.items():
                seed = f"{args.seed}/{name}/{shot}/{kind}"
                found = [of_task(t, args.ask) for t in tasks(photos, shot, sizes, seed, args.tasks)]
                every += found
                rows.append({"data": name, "shot": shot, "pool": kind} | _summary(found))
                say(rows[-1])
            rows.append({"data": "all", "shot": shot, "pool": kind} | _summary(every))
            say(rows[-1])
    emit("suggesting", vars(args), rows)


def _summary(found: list[dict[str, float]]) -> Row:
    random = [task["random"] for task in found]
    gains = {
        f"gain, {key}": gain([task[key] for task in found], random)
        for key in ("suggested", "doubt alone")
    }
    return means(found) | gains


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    main()
