"""A class of few photos beside one of many: whether it is found, and what `adapt` says of it.

    python -m benchmarks.accuracy.unbalanced MODEL DATA [DATA ...] --rare 2,1 --rich 40 --tasks 100

Tasks of two classes. For each data set and number of photos of the rare class: recall of both
classes without rejecting any photo, and the expected accuracy beside the true one (both the mean
over the two classes), in percent, means over tasks; and the head's count offset c.
"""

from __future__ import annotations

from random import Random
from typing import Any

from benchmarks.common import Row, arguments, emit, means, say
from benchmarks.personal_tasks import Drawing, accuracy
from fewshot_lite.personal.quality import assess


def of_task(drawing: Drawing, name: str, rng: Random, args: Any, rare: int) -> Row:
    groups = drawing.sets[name].groups
    usable = [k for k, group in enumerate(groups) if len(group) >= args.rich + args.queries]
    if len(usable) < 2:
        raise SystemExit(f"{name}: fewer than 2 classes have {args.rich + args.queries} photos")
    few, many = rng.sample(usable, 2)
    task = drawing.task(name, [few, many], [rare, args.rich], args.queries, rng)
    masks = [task.truth == k for k in (few > many, few < many)]
    recall = [accuracy(task.personal, task.queries[own], task.truth[own]) for own in masks]
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
    rows: list[Row] = []
    for rare in args.rare:
        for name in drawing.sets:
            rng = Random(f"{args.seed}/{name}/{rare}")
            found = [of_task(drawing, name, rng, args, rare) for _ in range(args.tasks)]
            rows.append({"data": name, "rare": rare, "rich": args.rich} | means(found))
            say(rows[-1])
    emit("unbalanced", vars(args), rows)


if __name__ == "__main__":
    main()
