"""Learners by gradient beside ProtoNets and Simple CNAPs, on characters of unseen alphabets.

    python benchmarks/omniglot.py TRAIN TEST --models FOLDER [--weights CONV4] [--arms maml-5,...]

TRAIN and TEST are folders with one folder of images a character, of different alphabets. Two
set-ups on Conv-4 at 28 px, with quarter turns as classes of their own in training:

- "papers": a head learned for 5 or for 20 ways, everything from random weights, 1-shot tasks.
- "means": heads that begin at class means, one model for all ways, from the same supervised weights
  CONV4 (`fewshot-lite pretrain TRAIN --backbone conv4 ...`), beside ProtoNets and Simple CNAPs.

A model that is in FOLDER already is not trained again. All rows of a task's shape see the same
tasks; intervals are 1.96·std/√tasks. Queries are normalised by the support set's statistics, not,
as in the papers, by one another's.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import emit, open_data
from fewshot_lite.evaluation.accuracy import fixed_episodes, make_task, score_learners
from fewshot_lite.learners import Learner
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.meta_train import meta_train

_SIZE = 28
_PAPERS = MetaTrainConfig(
    backbone="conv4",
    image_size=_SIZE,
    shot=1,
    inner_head="learned",
    tasks_per_step=2,
    lr=2e-3,
    augment=False,
    shifts=0.0,
    h=None,
)
_GRADIENT: dict[str, dict[str, Any]] = {
    "fomaml": {"learner": "fomaml", "inner_steps": 5, "inner_lr": 0.2},
    "maml": {"learner": "maml", "inner_steps": 5, "inner_lr": 0.2},
    "imaml": {"learner": "imaml", "inner_steps": 16, "inner_lr": 0.03},
    "hf": {"learner": "imaml", "inner_steps": 2, "inner_solver": "hessian-free"},
}
_WAYS: dict[int, dict[str, Any]] = {
    5: {"min_way": 5, "max_way": 5, "queries": 5, "tasks": 1000},
    20: {"min_way": 20, "max_way": 20, "queries": 2, "tasks": 500},
}
_MEANS = replace(
    _PAPERS,
    inner_head=None,
    shot=None,
    min_way=5,
    max_way=20,
    max_shot=5,
    max_support=60,
    queries=3,
    tasks=300,
    lr=1e-3,
)
_BESIDE: dict[str, dict[str, Any]] = {
    "protonets": {"learner": "protonets", "backbone_lr": 1.0},
    "simple-cnaps": {"learner": "simple-cnaps", "backbone_lr": 1.0},
}


def arms(weights: str | None) -> dict[str, MetaTrainConfig]:
    """How each model is trained."""
    found = {
        f"{name}-{way}": replace(_PAPERS, **options, **shape)
        for way, shape in _WAYS.items()
        for name, options in _GRADIENT.items()
    }
    if weights is not None:
        for name, options in {**_GRADIENT, **_BESIDE}.items():
            found[f"{name}-means"] = replace(_MEANS, backbone=None, weights=weights, **options)
        for name in ("fomaml", "maml", "imaml"):  # trained weights ask for smaller steps
            base = replace(found[f"{name}-means"], inner_lr=0.05, statistics="support")
            found[f"{name}-means"] = base
        found["hf-means"] = replace(found["hf-means"], statistics="support")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--weights")
    parser.add_argument("--arms", help="only these")
    parser.add_argument("--shapes", default="5x1,5x5,20x1,20x5", help="ways x shots")
    parser.add_argument("--queries", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=600)
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chosen = arms(args.weights)
    if args.arms:
        chosen = {name: chosen[name] for name in args.arms.split(",")}
    models: dict[str, Learner] = {}
    for name, config in chosen.items():
        path = args.models / f"{name}.safetensors"
        if not path.exists():
            turned = (args.train.name,)
            config = replace(config, rotate=turned, no_flip=turned, seed=args.seed)
            print(name, meta_train(args.train, path, config).accuracy, file=sys.stderr)
        models[name] = MetaModel.load(path).learner
    if args.train_only:
        return
    _, store, pool = open_data(args.test, _SIZE)
    rows = []
    for shape in args.shapes.split(","):
        way, shot = (int(part) for part in shape.split("x"))
        fitting = {k: m for k, m in models.items() if k.rpartition("-")[2] in ("means", str(way))}
        episodes = fixed_episodes(
            pool, way=way, shot=shot, queries=args.queries, tasks=args.tasks, seed=args.seed
        )
        tasks = (make_task(store, episode) for episode in episodes)
        scores = score_learners(fitting, tasks, micro_batch=500)
        for name, score in scores.items():
            rows.append(
                {
                    "way": way,
                    "shot": shot,
                    "model": name,
                    "accuracy": round(100 * score.mean, 2),
                    "interval": round(100 * score.interval, 2),
                }
            )
            print(rows[-1], file=sys.stderr)
    emit("omniglot", vars(args), rows)


if __name__ == "__main__":
    main()
