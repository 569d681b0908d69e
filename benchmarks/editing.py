"""What adding classes costs when FiLM stays as it was made, beside adapting anew on all classes.

    python benchmarks/editing.py default DATA [DATA ...] --ways 2:10 --pair-ways 5:10 --tasks 50

"K:T": FiLM from K classes, then classes are added up to T, and the head is fitted on all. Queries
are of all T classes. The loss is the accuracy of adapting anew minus that, task by task, in points,
with 1.96·std/√tasks; "features_moved" is how far FiLM made anew moves the features, as a share of
their length. Behind the sets stand pairs of them: the first K classes from one set and the added
ones from the next.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common import emit, open_data
from fewshot_lite.core.devices import autocast, pick_device
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.data.episodes import Episode, Pool
from fewshot_lite.data.store import ImageStore
from fewshot_lite.evaluation.accuracy import Score, fixed_episodes
from fewshot_lite.learners import Learner
from fewshot_lite.learners.base import Cast, lowered, map_batches, task_embedding
from fewshot_lite.networks.backbone import has_depthwise_convolutions
from fewshot_lite.personal.meta_model import MetaModel

Split = tuple[int, int]


@dataclass
class Source:
    """Where tasks come from: one set, or the first K classes from one and the rest from another."""

    name: str
    sets: list[tuple[ImageStore, Pool]]

    def task(self, split: Split, episodes: list[list[Episode]], number: int) -> list[Tensor]:
        """Support, its labels, queries and theirs of T classes, ordered by label."""
        base, total = split
        spans = [(0, total)] if len(self.sets) == 1 else [(0, base), (0, total - base)]
        parts: list[list[Tensor]] = [[], [], [], []]
        first = 0
        for (store, _), drawn, (low, high) in zip(self.sets, episodes, spans, strict=True):
            episode = drawn[number]
            for side, indices, labels in (
                (0, episode.support, episode.support_labels),
                (2, episode.query, episode.query_labels),
            ):
                kept = [i for i, k in enumerate(labels) if low <= k < high]
                parts[side].append(store[[indices[i] for i in kept]])
                parts[side + 1].append(torch.tensor([labels[i] + first for i in kept]))
            first += high - low
        return [torch.cat(part) for part in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--ways", default="2:10,5:6,5:20")
    parser.add_argument("--pair-ways", default="5:10", help="of pairs of sets; '' for none")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--queries", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--classes", help="FILE:KEY, of tiny-imagenet: a JSON file and its key")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    device = pick_device(args.device)
    model = MetaModel.load(args.model, device=str(device))
    model.learner.head.cpu()
    depthwise = has_depthwise_convolutions(model.learner.backbone)
    cast = functools.partial(autocast, device, "auto", depthwise=depthwise)
    only = None
    if args.classes:
        file, _, key = args.classes.rpartition(":")
        only = set(json.loads(Path(file).read_text())[key])
    singles = []
    for path in args.data:
        folder, store, pool = open_data(
            path, model.image_size, only if path.name == "tiny-imagenet" else None
        )
        singles.append(Source(folder.name, [(store, pool)]))
    pairs = [
        Source(f"{a.name} + {b.name}", [*a.sets, *b.sets])
        for a, b in zip(singles, singles[1:] + singles[:1], strict=True)
    ]
    rows = []
    for sources, ways in ((singles, args.ways), (pairs, args.pair_ways)):
        splits = [tuple(map(int, way.split(":"))) for way in ways.split(",") if way]
        for source in sources if len(singles) > 1 or sources is singles else []:
            for base, total in splits:
                row = measure(model.learner, source, (base, total), args, cast)
                if row:
                    rows.append(row)
                    print(row, file=sys.stderr, flush=True)
    emit("editing", vars(args), rows)


def measure(
    learner: Learner, source: Source, split: Split, args: argparse.Namespace, cast: Cast
) -> dict[str, Any] | None:
    """One row; None where the set has too few classes."""
    base, total = split
    wanted = [total] if len(source.sets) == 1 else [base, total - base]
    try:
        episodes = [
            fixed_episodes(
                pool, way=way, shot=args.shots, queries=args.queries, tasks=args.tasks,
                seed=args.seed,
            )
            for (_, pool), way in zip(source.sets, wanted, strict=True)
        ]  # fmt: skip
    except FewshotError:
        return None
    accuracies: dict[str, list[float]] = {"added": [], "anew": []}
    on_old: dict[str, list[float]] = {"added": [], "anew": []}
    moved = []
    for number in range(args.tasks):
        support, labels, query, truth = source.task(split, episodes, number)
        images = torch.cat([support, query])
        features = {}
        for name, seen in (("added", base), ("anew", total)):
            x = features[name] = features_of(learner, images, support[labels < seen], cast)
            statistics = learner.head.fit(x[: len(labels)], labels, total)
            answers = learner.head.logits(statistics, x[len(labels) :]).argmax(1)
            correct = (answers == truth).double()
            accuracies[name].append(float(correct.mean()))
            on_old[name].append(float(correct[truth < base].mean()))
        moved.append(float((features["anew"] - features["added"]).norm() / features["anew"].norm()))
    result = {
        "data": source.name,
        "film_from": base,
        "classes": total,
        "shots": args.shots,
        "tasks": args.tasks,
        "features_moved": sum(moved) / len(moved),
    }
    result |= {name: round(100 * Score(tuple(v)).mean, 2) for name, v in accuracies.items()}
    for name, values in (("loss", accuracies), ("loss_on_old_classes", on_old)):
        lost = Score(tuple(a - b for a, b in zip(values["anew"], values["added"], strict=True)))
        result[name] = round(100 * lost.mean, 2)
        result[f"{name}_interval"] = round(100 * lost.interval, 2)
    return result


def features_of(learner: Learner, images: Tensor, seen: Tensor, cast: Cast) -> Tensor:
    """(B, d) of images (B, 3, S, S) under FiLM from the images seen; on the CPU."""
    device = learner.backbone.mean.device
    z = None
    if learner.has_set_encoder:
        z = task_embedding(learner, lowered(learner, seen.to(device), 64, cast), 64, cast)
    parameters = learner.norm_parameters(z)
    below = lowered(learner, images.to(device), 64, cast)
    return map_batches(lambda x: learner.features(x, parameters), below, 64, cast).cpu()


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
