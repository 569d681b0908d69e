"""A class of few photos beside one of many: whether it is found, and what `adapt` says of it.

    python -m benchmarks.accuracy.unbalanced MODEL DATA [DATA ...] --rare 2,1 --rich 40 --tasks 100

Tasks of two classes. For each data set and number of photos of the rare class: recall of both
classes without rejecting any photo, and the expected accuracy beside the true one (both the mean
over the two classes), in percent, means over tasks; and the head's count offset c.
"""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

from benchmarks.common import Row, arguments, emit_rows, means
from benchmarks.personal_tasks import Drawing
from fewshot_lite.personal.quality import assess


def of_task(drawing: Drawing, name: str, rng: Random, args: Any, rare: int) -> Row:
    groups = drawing.sets[name].groups
    usable = [k for k, group in enumerate(groups) if len(group) >= args.rich + args.queries]
    if len(usable) < 2:
        raise SystemExit(f"{name}: fewer than 2 classes have {args.rich + args.queries} photos")
    task = drawing.task(name, rng.sample(usable, 2), [rare, args.rich], args, rng)
    right = task.personal.outputs_of(task.queries).probabilities.argmax(1) == task.truth
    recall = [float(right[task.truth == k].double().mean()) for k in (0, 1)]
    return {
        "recall of the rare": recall[0],
        "recall of the rich": recall[1],
        "expected, mean over classes": assess(task.personal).accuracy,
        "true, mean over classes": sum(recall) / 2,
        "count offset": float(task.personal.head.state_dict()["count_offset"]) / 100,  # no share
    }


def main() -> None:
    args = arguments(__doc__, "model", "data+", rich=40, rare=[2, 1], queries=10, tasks=100, seed=0)
    drawing = Drawing.open(args)

    def row(rare: int, name: str) -> Row:
        rng = Random(f"{args.seed}/{name}/{rare}")
        found = [of_task(drawing, name, rng, args, rare) for _ in range(args.tasks)]
        return {"data": name, "rare": rare, "rich": args.rich} | means(found)

    emit_rows("unbalanced", args, (row(*of) for of in product(args.rare, drawing.sets)))


if __name__ == "__main__":
    main()
