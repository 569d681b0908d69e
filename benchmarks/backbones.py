"""Backbones without adaptation: what they know, how long they take, how large they are.

    python benchmarks/backbones.py DATA [DATA ...] --backbones a.safetensors@128/1,2 b.pth@96

Each backbone is a file (what `pretrain` or `meta-train` wrote), or a torchvision name for its time
and size with random weights, at an image size and, after a slash, at scales (default: 1). For each:
parameters, megabytes in half precision, milliseconds an image in batches of 32 (the best of five,
taken in turns over all backbones) and beside the first one's; and the accuracy of the heads that
`adapt` uses for a backbone without a head of its own ("mean"), of cosine class means, and of a
linear one, all on the same tasks, with 95 % intervals, 1.96·std/√tasks; of the mean over sets,
√(Σ variance of a set's mean). "paired" is the mean over sets of the row's first head minus that of
the first backbone's.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common import emit, open_data
from fewshot_lite import checkpoint
from fewshot_lite.backbones import Backbone, has_depthwise_convolutions, load_backbone
from fewshot_lite.devices import autocast, pick_device
from fewshot_lite.errors import UsageError
from fewshot_lite.evaluation import Score, fixed_episodes
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.mean import MeanHead
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.registry import AnyHead
from fewshot_lite.heads.ridge import RidgeHead
from fewshot_lite.learners.base import map_batches
from fewshot_lite.meta_model import MetaModel

_BATCH = 32
_REPEATS = 5


@dataclass
class Candidate:
    """A backbone as it is asked for."""

    text: str
    backbone: Backbone
    size: int
    trained: bool

    @classmethod
    def parse(cls, text: str) -> Candidate:
        """From NAME@SIZE/SCALES.

        Raises:
            UsageError: no such file or network.
        """
        name, _, at = text.partition("@")
        side, _, scales = at.partition("/")
        size, path = int(side or 96), Path(name)
        if not path.exists():
            backbone, _ = load_backbone(name, "none", size, seed=0)
        elif path.suffix == ".safetensors" and checkpoint.read_meta(path)["kind"] == "meta":
            backbone = MetaModel.load(path).learner.backbone
        else:
            backbone, _ = load_backbone(None, str(path), size, seed=0)
        backbone.look_at([int(scale) for scale in scales.split(",")] if scales else [1])
        backbone.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        return cls(text, backbone, size, path.exists())

    def features(self, images: Tensor) -> Tensor:
        """(B, d), float32."""
        depthwise = has_depthwise_convolutions(self.backbone)
        with autocast(pick_device("cpu"), "auto", depthwise=depthwise):
            found: Tensor = self.backbone(images)
        return found.float()

    def describe(self) -> dict[str, Any]:
        """Its size."""
        weights = list(self.backbone.network.state_dict().values())
        size = sum(w.numel() * (2 if w.is_floating_point() and w.ndim > 1 else 4) for w in weights)
        return {
            "backbone": self.text,
            "parameters": sum(p.numel() for p in self.backbone.network.parameters()),
            "megabytes": round(size / 1e6, 1),
            "features": self.backbone.feature_dim,
        }


def milliseconds(candidates: list[Candidate]) -> list[float]:
    """An image, each candidate in turn."""
    best = [math.inf] * len(candidates)
    batches = [
        torch.rand(_BATCH, 3, c.size, c.size).contiguous(memory_format=torch.channels_last)
        for c in candidates
    ]
    for repeat in range(_REPEATS + 1):  # the first warms up
        for number, (candidate, batch) in enumerate(zip(candidates, batches, strict=True)):
            start = time.perf_counter()
            candidate.features(batch)
            seconds = time.perf_counter() - start
            if repeat:
                best[number] = min(best[number], seconds)
    return [1000 * seconds / _BATCH for seconds in best]


def heads() -> dict[str, AnyHead]:
    """As `heads.choice` has them for a base without a head of its own."""
    mahalanobis, ridge = MahalanobisHead(0.7, 0.18, root=True), RidgeHead()
    return {
        "mean": MeanHead([mahalanobis, ridge]),
        "cosine": PrototypeHead("cosine"),
        "linear": ridge,
    }


def score(
    candidate: Candidate, path: Path, shot: int, args: argparse.Namespace
) -> dict[str, Score]:
    """Accuracies of each head on one data set."""
    _, store, pool = open_data(path, candidate.size)
    parts = (store[part.tolist()] for part in torch.arange(len(store)).split(256))
    features = torch.cat([map_batches(candidate.features, images, _BATCH) for images in parts])
    smallest = min(sum(len(group) for group in groups) for groups in pool.groups)
    found: dict[str, list[float]] = {name: [] for name in heads()}
    for episode in fixed_episodes(
        pool,
        way=min(args.way, pool.classes),
        shot=shot,
        queries=min(args.queries, smallest - shot),
        tasks=args.tasks,
        seed=args.seed,
    ):
        labels, truth = torch.tensor(episode.support_labels), torch.tensor(episode.query_labels)
        for name, head in heads().items():
            statistics = head.fit(features[episode.support], labels, episode.classes)
            answers = head.logits(statistics, features[episode.query]).argmax(1)
            found[name].append(float((answers == truth).double().mean()))
    return {name: Score(tuple(values)) for name, values in found.items()}


def over_sets(scores: list[Score]) -> dict[str, float]:
    """Mean over sets, all weighing the same, in %."""
    mean = sum(s.mean for s in scores) / len(scores)
    interval = math.sqrt(sum(s.interval**2 for s in scores)) / len(scores)
    return {"accuracy": round(100 * mean, 2), "interval": round(100 * interval, 2)}


def minus(a: Score, b: Score) -> Score:
    """Task by task."""
    return Score(tuple(x - y for x, y in zip(a.accuracies, b.accuracies, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--backbones", nargs="+", required=True)
    parser.add_argument("--way", type=int, default=5)
    parser.add_argument("--shots", default="5")
    parser.add_argument("--queries", type=int, default=10)
    parser.add_argument("--tasks", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        candidates = [Candidate.parse(text) for text in args.backbones]
    except UsageError as error:
        parser.error(str(error))
    times = milliseconds(candidates)
    rows: list[dict[str, Any]] = []
    for candidate, time_each in zip(candidates, times, strict=True):
        row = candidate.describe()
        row |= {"ms": round(time_each, 2), "times_the_first": round(time_each / times[0], 2)}
        rows.append(row)
    for shot in (int(text) for text in args.shots.split(",")):
        first: list[Score] | None = None
        for candidate, row in zip(candidates, rows, strict=True):
            if not candidate.trained:
                continue
            by_set = {path.name: score(candidate, path, shot, args) for path in args.data}
            figures: dict[str, Any] = {
                head: {
                    **{n: round(100 * scores[head].mean, 2) for n, scores in by_set.items()},
                    **over_sets([scores[head] for scores in by_set.values()]),
                }
                for head in heads()
            }
            own = [scores["mean"] for scores in by_set.values()]
            first = first or own
            figures["paired"] = over_sets([minus(a, b) for a, b in zip(own, first, strict=True)])
            row[f"{shot}-shot"] = figures
    emit("backbones", vars(args), rows)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
