"""Accuracy after labelling photos that `suggest` chose, beside photos drawn at random.

    python -m benchmarks.accuracy.suggesting MODEL DATA [DATA ...] --shots 3 --tasks 40

Of each task, half of the held-back photos are a pool without labels, and accuracy is measured on
the others: before, with `--ask` photos of the pool drawn at random (the mean of five draws), and
with as many that were chosen by `personal.suggesting` or by doubt alone. `gain` is the mean
difference between suggested and random with its 95 % interval over tasks.
"""

from __future__ import annotations

from random import Random

import torch
from torch import Tensor

from benchmarks.common import emit
from benchmarks.personal_tasks import PersonalTask, each_set, task_arguments
from fewshot_lite.core.intervals import half_width
from fewshot_lite.personal.editing import add_features
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.suggesting import choose

#: Random draws of a task.
_DRAWS = 5


def accuracy(personal: PersonalModel, features: Tensor, truth: Tensor) -> float:
    answers = personal.outputs_of(features).probabilities.argmax(1)
    return float((answers == truth).double().mean())


def of_task(task: PersonalTask, ask: int, rng: Random) -> dict[str, float]:
    personal, number = task.personal, len(task.queries)
    order = rng.sample(range(number), number)
    pool, test = order[: number // 2], order[number // 2 :]
    features, truth = task.queries[pool], task.truth[pool]
    probabilities = personal.outputs_of(features).probabilities
    even = torch.full_like(probabilities, 1 / probabilities.shape[1])
    ways = {
        **{f"draw {i}": rng.sample(range(len(pool)), ask) for i in range(_DRAWS)},
        "suggested": choose(personal.features, features, probabilities, ask),
        "doubt alone": _by_doubt(probabilities, ask),
        "without doubt": choose(personal.features, features, even, ask),
    }
    found = {"before": accuracy(personal, task.queries[test], task.truth[test])}
    for name, rows in ways.items():
        labels = [personal.class_names[k] for k in truth[rows].tolist()]
        names = [f"pool {row}" for row in rows]
        changed = add_features(personal, features[rows], labels, names).model
        found[name] = accuracy(changed, task.queries[test], task.truth[test])
    draws = [found.pop(f"draw {i}") for i in range(_DRAWS)]
    return found | {"random": sum(draws) / _DRAWS}


def _by_doubt(probabilities: Tensor, number: int) -> list[int]:
    top = probabilities.topk(2, dim=1).values
    rows: list[int] = (top[:, 0] - top[:, 1]).argsort()[:number].tolist()
    return rows


def main() -> None:
    args = task_arguments(__doc__, queries=40, ask=(10, "photos to label"))
    rows, every = [], []
    for row, tasks in each_set(args, views=1):
        rng = Random(args.seed)
        found = [of_task(task, args.ask, rng) for task in tasks]
        every += found
        rows.append(row | _summary(found))
    rows.append({"data": "all"} | _summary(every))
    emit("suggesting", vars(args), rows)


def _summary(found: list[dict[str, float]]) -> dict[str, float]:
    means = {key: sum(task[key] for task in found) / len(found) for key in found[0]}
    gains = [100 * (task["suggested"] - task["random"]) for task in found]
    summary = {key: round(100 * value, 1) for key, value in means.items()}
    summary |= {"gain": round(sum(gains) / len(gains), 2), "±": round(half_width(gains), 2)}
    return summary


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    main()
