"""Few-shot accuracy of a checkpoint beside heads on the same backbone without adaptation.

    python benchmarks/few_shot.py MODEL DATA [DATA ...] --way 5 --shots 1,5 --tasks 600

Rows: the model; and, on features of its backbone without adaptation, its own head, Mahalanobis
heads as they start and as the paper has them, and class means (cosine and Euclidean). All rows see
the same tasks. `--classes FILE:KEY` takes the classes to use from a JSON file of lists. Intervals
are 1.96·std/√tasks; "paired" is the model minus the row, task by task, with its interval.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from scores import bare_features, cast_for, minus, percent, score_heads

from common import check_arguments, emit, open_data
from fewshot_lite.core.devices import pick_device
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.evaluation.accuracy import fixed_episodes, make_task, score_learners
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.registry import AnyHead
from fewshot_lite.personal.meta_model import MetaModel


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
    check_arguments(parser, args)
    try:
        model = MetaModel.load(args.model, device=str(device))
    except FewshotError as error:
        parser.error(str(error))
    backbone = model.learner.backbone
    heads: dict[str, AnyHead] = {
        "own head, not adapted": model.learner.head,
        "Mahalanobis on root features, not adapted": MahalanobisHead(root=True),
        "Mahalanobis (the paper's), not adapted": MahalanobisHead(),
        "cosine class means, not adapted": PrototypeHead("cosine"),
        "Euclidean class means, not adapted": PrototypeHead(),
    }
    for head in heads.values():
        head.to(device)
    cast = cast_for(backbone, device)
    only = None
    if args.classes:
        file, _, key = args.classes.rpartition(":")
        only = set(json.loads(Path(file).read_text())[key])
    rows: list[dict[str, Any]] = []
    for data in args.data:
        folder, store, pool = open_data(data, args.image_size or model.image_size, only)
        way = min(args.way, pool.classes)
        features = bare_features(backbone, store, device)
        for shot in args.shots:
            smallest = min(sum(len(g) for g in groups) for groups in pool.groups)
            queries = min(args.queries, smallest - shot)
            if queries < 1:
                sys.exit(f"{data}: too few photos of a class for {shot} shots and a query")
            episodes = fixed_episodes(
                pool, way=way, shot=shot, queries=queries, tasks=args.tasks, seed=args.seed
            )
            start = time.perf_counter()
            tasks = (make_task(store, episode) for episode in episodes)
            scores = score_learners({"model": model.learner}, tasks, cast=cast)
            scores |= score_heads(heads, features, episodes)
            seconds = time.perf_counter() - start
            for name, score in scores.items():
                paired = minus(scores["model"], score)
                rows.append(
                    {
                        "data": folder.name,
                        "way": way,
                        "shot": shot,
                        "queries": queries,
                        "row": name,
                        **percent(score),
                        **percent(paired, "paired", "paired_interval"),
                        "seconds": round(seconds, 1),
                    }
                )
    emit("few_shot", vars(args), rows)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
