"""Where FiLM should stand before gradient steps: meta-trained on what lies below it, computed once.

    python -m benchmarks.accuracy.film_start default maml.safetensors DATA/cards DATA/uisketch \
        --learner fomaml --stages 2 --inner-steps 5 --inner-lr 0.01 --tasks 400

The backbone is a model's, or "lite0", that of ImageNet. `benchmarks.accuracy.refining` takes what
is written as a row. `--maps` keeps the maps of these data sets, so that the next run on the same
backbone and stages starts at once. The command line does the same with views of the photos and any
numbers of classes and shots: `meta-train DATA --learner fomaml --film-stages 2`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import Row, arguments, emit, say
from fewshot_lite.data.store import ImageStore
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.learners.task import Task
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.meta_gradient import gradient_step, meta_gradient
from fewshot_lite.maml.registry import make_learner
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.inference import compiled
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.personal.meta_model import MetaModel

#: Classes of a data set, and images of a class, at most.
_CLASSES, _IMAGES = 20, 16


@dataclass(frozen=True)
class Maps:
    """Lower maps of a data set's images, float16 (N, C, H, W), and those of each class."""

    maps: Tensor
    groups: list[list[int]]

    @classmethod
    def of(cls, path: Path, learner: GradientLearner, kept: Path | None) -> Maps:
        file = kept / f"{path.name}.pt" if kept else None
        if file is not None and file.exists():
            return cls(*torch.load(file, weights_only=True))
        size = learner.backbone.image_size
        folder, random = scan_classes(path), Random(0)
        by_class = [list(group) for group in folder.indices_by_class()]
        chosen: list[int] = []
        groups = []
        for group in random.sample(by_class, min(len(by_class), _CLASSES)):
            few = random.sample(group, min(len(group), _IMAGES))
            groups.append(list(range(len(chosen), len(chosen) + len(few))))
            chosen += few
        store = ImageStore([folder.paths[i] for i in chosen], size)
        assert not store.problems, f"{path}: {store.problems}"
        run = compiled(learner.backbone, size, stop=learner.first_stage) or learner.lower_maps
        parts = torch.arange(len(chosen)).split(32)
        found = cls(torch.cat([run(store[part.tolist()]).half() for part in parts]), groups)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save([found.maps, found.groups], file)
        return found

    def task(self, random: Random, way: int, shot: int, queries: int) -> Task:
        """A task whose images are their maps."""
        enough = [group for group in self.groups if len(group) > shot]
        drawn = [random.sample(group, len(group)) for group in random.sample(enough, way)]
        sides = [group[:shot] for group in drawn], [g[shot : shot + queries] for g in drawn]
        support, query = ([i for group in side for i in group] for side in sides)
        labels = [
            torch.tensor([k for k, group in enumerate(side) for _ in group]) for side in sides
        ]
        maps = self.maps[support].float(), self.maps[query].float()
        return Task(maps[0], labels[0], maps[1], labels[1], way)


def backbone_of(name: str) -> tuple[Backbone, Row]:
    """A model's backbone, or that of ImageNet."""
    if name == "lite0":
        return load_backbone("efficientnet_lite0", "default", 224)
    model = MetaModel.load(name)
    return model.learner.backbone.requires_grad_(True), model.source


def train(learner: GradientLearner, sets: list[Maps], args: argparse.Namespace) -> Iterator[Row]:
    """Adam on the mean meta-gradient of so many tasks, with a cosine of learning rates."""
    learner.lower_maps = as_is  # type: ignore[method-assign]  # tasks are of maps
    groups = learner.parameter_groups(args.lr)
    for group in groups:  # the temperature begins far too low for features of this backbone
        group["lr"] *= args.head_lr if group["name"] == "head" else 1.0
    optimizer = torch.optim.Adam(groups)
    steps = args.tasks // args.tasks_per_step
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    random = Random(args.seed)
    for step in range(steps):
        learner.zero_grad(set_to_none=True)
        done = []
        for _ in range(args.tasks_per_step):
            task = random.choice(sets).task(random, args.way, args.shot, args.queries)
            found = meta_gradient(learner, task)
            done.append(gradient_step(learner, found, scale=1 / args.tasks_per_step))
        optimizer.step()
        schedule.step()
        losses, right = ([getattr(one, key) for one in done] for key in ("loss", "accuracy"))
        yield {"step": step, "loss": fmean(losses), "accuracy": fmean(right)}
    del learner.lower_maps


def as_is(images: Tensor) -> Tensor:
    return images


def options(args: argparse.Namespace) -> dict[str, Any]:
    """Of the learner."""
    found = {"film_stages": args.stages, "inner_steps": args.inner_steps}
    found |= {"inner_lr": args.inner_lr, "pattern": args.pattern}
    if args.learner == "imaml":
        return found | {"lam": args.lam, "curvature": "gauss-newton"}
    return found | {"layer_rates": args.layer_rates}


def main() -> None:
    args = arguments(
        __doc__,
        "model",
        "output",
        "data+",
        learner="fomaml",
        stages=2,
        pattern=str,
        inner_steps=5,
        inner_lr=0.01,
        layer_rates=False,
        lam=2.0,
        lr=1e-3,
        head_lr=(10.0, "as a multiple of --lr"),
        way=5,
        shot=5,
        queries=8,
        tasks=(400, "0 writes the start as it was"),
        tasks_per_step=4,
        maps=(Path, "a folder to keep the maps in"),
        seed=0,
    )
    backbone, source = backbone_of(args.model)
    learner = make_learner(args.learner, backbone, options(args))
    assert isinstance(learner, GradientLearner)
    sets = [Maps.of(path, learner, args.maps) for path in args.data if args.tasks]
    rows: list[Row] = []
    for row in train(learner, sets, args):
        rows.append(row)
        if len(rows) % 10 == 0:
            recent = rows[-10:]
            say(len(rows), *(round(fmean(r[key] for r in recent), 3) for key in recent[0]))
    record = {"training": vars(args), "backbone": source}
    record = {key: {k: str(v) for k, v in value.items()} for key, value in record.items()}
    MetaModel(learner, backbone.image_size, record).save(args.output)
    tail = rows[-25:]
    emit(
        "film_start",
        vars(args),
        {key: fmean(r[key] for r in tail) for key in tail[0]} if tail else {},
    )


if __name__ == "__main__":
    main()
