"""A class of few photos beside one of many: whether it is found, and what `adapt` says of it.

    python -m benchmarks.accuracy.unbalanced MODEL DATA [DATA ...] --rare 2,1 --rich 40 --tasks 100

Tasks of two classes. For each data set and number of photos of the rare class: recall of both
classes without rejecting any photo, and the expected accuracy beside the true one (both the mean
over the two classes), in percent, means over tasks.
"""

from __future__ import annotations

from random import Random
from typing import Any

import torch

from benchmarks.common import Row, arguments, emit, say
from benchmarks.personal_tasks import PersonalTasks
from fewshot_lite.learners.base import map_batches
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.quality import assess


def of_task(drawing: PersonalTasks, name: str, rng: Random, args: Any, rare: int) -> Row:
    data = drawing.sets[name]
    usable = [k for k, group in enumerate(data.groups) if len(group) >= args.rich + args.queries]
    few, many = rng.sample(usable, 2)
    support, asked = [], []
    for k, shot in ((few, rare), (many, args.rich)):
        drawn = rng.sample(data.groups[k], shot + args.queries)
        support.append(drawn[:shot])
        asked += drawn[shot:]
    labels = ["a"] * rare + ["b"] * args.rich
    personal = drawing.model.adapt(data.images[support[0] + support[1]], labels)
    features = map_batches(personal.backbone, data.images[asked], 64)
    answers = personal.outputs_of(features).probabilities.argmax(1)
    right = answers == torch.arange(2).repeat_interleave(args.queries)
    recall = right.view(2, args.queries).double().mean(1).tolist()
    return {"rare": recall[0], "rich": recall[1], "expected": assess(personal).accuracy}


def main() -> None:
    args = arguments(__doc__, "model", "data+", rich=40, rare=[2, 1], queries=10, tasks=100, seed=0)
    drawing = PersonalTasks(MetaModel.load(args.model), args.data, args.seed)
    rows = []
    for rare in args.rare:
        for name in drawing.sets:
            rng = Random(f"{args.seed}/{name}/{rare}")
            found = [of_task(drawing, name, rng, args, rare) for _ in range(args.tasks)]
            row: Row = {"data": name, "rare": rare, "rich": args.rich}
            row["recall of the rare"] = _mean([x["rare"] for x in found])
            row["recall of the rich"] = _mean([x["rich"] for x in found])
            told = [x["expected"] for x in found if x["expected"] is not None]
            row["expected, mean over classes"] = _mean(told) if told else None
            row["true, mean over classes"] = _mean([(x["rare"] + x["rich"]) / 2 for x in found])
            rows.append(row)
            say(row)
    emit("unbalanced", vars(args), rows)


def _mean(values: list[float]) -> float:
    return round(100 * sum(values) / len(values), 1)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    main()
