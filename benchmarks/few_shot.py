"""Few-shot accuracy of a checkpoint beside heads on the same backbone without adaptation.

    python benchmarks/few_shot.py MODEL DATA [DATA ...] --way 5 --shots 1,5 --tasks 600

Rows: the model; its own head on the un-adapted backbone; class means (cosine and Euclidean) on the
un-adapted backbone. All rows see the same tasks. `--classes FILE:KEY` takes the classes to use from
a JSON file of lists. Intervals are 1.96·std/√tasks; "paired" is the model minus the row, task by
task, with its interval.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import time
from pathlib import Path
from typing import Any

import torch
from common import emit, open_data

from fewshot_lite.backbones import has_depthwise_convolutions
from fewshot_lite.devices import autocast, pick_device
from fewshot_lite.evaluate import Score, evaluate, fixed_episodes
from fewshot_lite.heads.registry import AnyHead
from fewshot_lite.learners import Learner, ProtoNets
from fewshot_lite.meta_model import MetaModel


def without_adaptation(model: MetaModel, head: AnyHead) -> Learner:
    """The checkpoint's backbone as it is, under a head."""
    learner = ProtoNets(copy.deepcopy(model.learner.backbone), backbone_lr=0.0)
    learner.head = head  # type: ignore[assignment]
    return learner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--way", type=int, default=5)
    parser.add_argument("--shots", default="1,5")
    parser.add_argument("--queries", type=int, default=10)
    parser.add_argument("--tasks", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--image-size", type=int, help="other than the checkpoint's")
    parser.add_argument("--classes", help="FILE:KEY, a JSON file and the key of a list of classes")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    device = pick_device(args.device)
    model = MetaModel.load(args.model, device=str(device))
    backbone = model.learner.backbone
    learners: dict[str, Learner] = {
        "model": model.learner,
        "own head, not adapted": without_adaptation(model, copy.deepcopy(model.learner.head)),
        "cosine class means": without_adaptation(model, ProtoNets(backbone, metric="cosine").head),
        "Euclidean class means": without_adaptation(model, ProtoNets(backbone).head),
    }
    for learner in learners.values():
        learner.to(device).requires_grad_(False)
    cast = functools.partial(
        autocast, device, "auto", depthwise=has_depthwise_convolutions(backbone)
    )
    only = None
    if args.classes:
        file, _, key = args.classes.rpartition(":")
        only = set(json.loads(Path(file).read_text())[key])
    rows: list[dict[str, Any]] = []
    for data in args.data:
        folder, store, pool = open_data(data, args.image_size or model.image_size, only)
        way = min(args.way, pool.classes)
        for shot in (int(s) for s in args.shots.split(",")):
            smallest = min(sum(len(g) for g in groups) for groups in pool.groups)
            queries = min(args.queries, smallest - shot)
            episodes = fixed_episodes(
                pool, way=way, shot=shot, queries=queries, tasks=args.tasks, seed=args.seed
            )
            start = time.perf_counter()
            scores = evaluate(learners, store, episodes, cast=cast)
            seconds = time.perf_counter() - start
            for name, score in scores.items():
                differences = [
                    a - b for a, b in zip(scores["model"].accuracies, score.accuracies, strict=True)
                ]
                paired = Score(tuple(differences))
                rows.append(
                    {
                        "data": folder.name,
                        "way": way,
                        "shot": shot,
                        "queries": queries,
                        "row": name,
                        "accuracy": round(100 * score.mean, 2),
                        "interval": round(100 * score.interval, 2),
                        "paired": round(100 * paired.mean, 2),
                        "paired_interval": round(100 * paired.interval, 2),
                        "seconds_all_rows": round(seconds, 1),
                    }
                )
    emit("few_shot", vars(args), rows)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
