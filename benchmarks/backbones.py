"""Backbones without adaptation: what they know, how long they take, how large they are.

    python benchmarks/backbones.py DATA [DATA ...] --backbones a.safetensors@128/1,2/max b.pth@96

Each backbone is a file (what `pretrain` or `meta-train` wrote), or a torchvision name for its time
and size with random weights, at an image size and, after slashes, at scales (default: 1) and with a
pooling (default: what the file has, "mean" for a backbone). For each: parameters, megabytes in half
precision, milliseconds an image in batches of 32 (the best of five, taken in turns over all
backbones) and beside the first one's; and the accuracy of what `adapt` uses for a backbone without
a head of its own ("mean") and of the heads that this is the mean of, all on the same tasks, with
95 % intervals, 1.96·std/√tasks; of the mean over sets, √(Σ variance of a set's mean). "paired" is
the mean over sets of the row's first head minus that of the first backbone's.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from scores import bare_features, cast_for, minus, over_sets, score_heads

from common import check_arguments, emit, open_data
from fewshot_lite.core import checkpoint
from fewshot_lite.core.config import Pooling
from fewshot_lite.core.devices import pick_device
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.evaluation.accuracy import Score, fixed_episodes
from fewshot_lite.heads.choice import default_head, untrained_head
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.ridge import RidgeHead
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.personal.meta_model import MetaModel

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
        """From NAME@SIZE/SCALES/POOLING.

        Raises:
            FewshotError: no such file or network, or one that does not pool like that.
            ValueError: sizes, scales or a pooling that are none.
        """
        name, _, at = text.partition("@")
        side, scales, pooling = [*at.split("/"), "", ""][:3]
        size, path = int(side or 96), Path(name)
        if not path.exists():
            backbone, _ = load_backbone(name, "none", size, seed=0)
        elif path.suffix == ".safetensors" and checkpoint.read_meta(path)["kind"] == "meta":
            backbone = MetaModel.load(path).learner.backbone
        else:
            backbone, _ = load_backbone(None, str(path), size, seed=0)
        backbone.look_at([int(scale) for scale in scales.split(",")] if scales else [1])
        if pooling:
            backbone.pool_by(cast(Pooling, pooling))
        backbone.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        return cls(text, backbone, size, path.exists())

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
            with cast_for(candidate.backbone, pick_device("cpu"))():
                candidate.backbone(batch)
            seconds = time.perf_counter() - start
            if repeat:
                best[number] = min(best[number], seconds)
    return [1000 * seconds / _BATCH for seconds in best]


def score(
    candidate: Candidate, path: Path, shots: list[int], args: argparse.Namespace
) -> dict[int, dict[str, Score]]:
    """Accuracies of each head on one data set, by the number of shots."""
    _, store, pool = open_data(path, candidate.size)
    features = bare_features(candidate.backbone, store, pick_device("cpu"))
    heads = {
        "mean": default_head(untrained_head())[1],
        "mahalanobis": untrained_head(),
        "cosine": PrototypeHead("cosine"),
        "linear": RidgeHead(),
    }
    smallest = min(sum(len(group) for group in groups) for groups in pool.groups)
    found = {}
    for shot in shots:
        episodes = fixed_episodes(
            pool,
            way=min(args.way, pool.classes),
            shot=shot,
            queries=min(args.queries, smallest - shot),
            tasks=args.tasks,
            seed=args.seed,
        )
        found[shot] = score_heads(heads, features, episodes)
    return found


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
    check_arguments(parser, args)
    shots: list[int] = args.shots
    try:
        candidates = [Candidate.parse(text) for text in args.backbones]
    except FewshotError as error:
        parser.error(str(error))
    except ValueError as error:
        parser.error(f"--backbones: {error}; give e.g. FILE@128/1,2/max")
    times = milliseconds(candidates)
    rows: list[dict[str, Any]] = []
    for candidate, time_each in zip(candidates, times, strict=True):
        row = candidate.describe()
        row |= {"ms": round(time_each, 2), "times_the_first": round(time_each / times[0], 2)}
        rows.append(row)
    first: dict[int, list[Score]] = {}
    for candidate, row in zip(candidates, rows, strict=True):
        if not candidate.trained:
            continue
        by_set = {path.name: score(candidate, path, shots, args) for path in args.data}
        for shot in shots:
            cells = {name: found[shot] for name, found in by_set.items()}
            own = [scores["mean"] for scores in cells.values()]
            row[f"{shot}-shot"] = {
                head: {
                    **{name: round(100 * scores[head].mean, 2) for name, scores in cells.items()},
                    **over_sets([scores[head] for scores in cells.values()]),
                }
                for head in ("mean", "mahalanobis", "cosine", "linear")
            }
            pairs = zip(own, first.setdefault(shot, own), strict=True)
            row[f"{shot}-shot"]["paired"] = over_sets([minus(a, b) for a, b in pairs])
    emit("backbones", vars(args), rows)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
