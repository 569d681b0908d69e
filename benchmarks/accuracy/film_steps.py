"""Steps on FiLM from several starts, beside none, on the same tasks and what lies below them.

    python -m benchmarks.accuracy.film_steps DATA/clothing DATA/eth80 --steps 0,5,60 --tasks 10 \
        --models before.safetensors,after.safetensors

Models are those of `film_start`, of one backbone and as many stages. A row with 0 steps is the head
from class means alone. Gains are over the first row, task by task.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from random import Random
from statistics import fmean

from benchmarks.accuracy.film_start import Maps, as_is
from benchmarks.common import Row, arguments, emit, say
from fewshot_lite.core.intervals import half_width
from fewshot_lite.learners.task import Task
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.personal.meta_model import MetaModel


def accuracy(learner: GradientLearner, task: Task, steps: int) -> float:
    """Share of queries named right after so many steps."""
    learner.inner_steps = max(1, steps)
    learner.set_pattern(None if steps else "0" * len(learner.layers))
    adapted = learner.adapt(task.support, task.support_labels, task.classes)
    logits = learner.head.logits(adapted.statistics, adapted.features_from_maps(task.query))
    return float((logits.argmax(1) == task.query_labels).double().mean())


def opened(paths: str) -> dict[str, GradientLearner]:
    found = {Path(path).stem: MetaModel.load(path).learner for path in paths.split(",")}
    learners = {k: v for k, v in found.items() if isinstance(v, GradientLearner)}
    assert found.keys() == learners.keys(), "not all of them adapt by gradient"
    [_] = {learner.first_stage for learner in learners.values()}
    return learners


def measure(args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """By data set and row, the accuracies of all tasks so far."""
    learners = opened(args.models)
    sets = {
        path.name: Maps.of(path, next(iter(learners.values())), args.maps) for path in args.data
    }
    for learner in learners.values():
        learner.lower_maps = as_is  # type: ignore[method-assign]  # tasks are of maps
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number in range(args.tasks):
        for name, maps in sets.items():
            random = Random(f"{args.seed}/{name}/{number}")
            task = maps.task(random, min(args.way, len(maps.groups)), args.shot, args.queries)
            for model, learner in learners.items():
                for steps in args.steps:
                    right = accuracy(learner, task, steps)
                    found[name][f"{model}, {steps} steps"].append(right)
            say(name, number, {row: round(100 * fmean(v), 1) for row, v in found[name].items()})
    return found


def summary(found: dict[str, dict[str, list[float]]]) -> list[Row]:
    """Percent, and points of gain with intervals of 95 %."""
    rows = list(next(iter(found.values())))
    everything = {row: [x for of_set in found.values() for x in of_set[row]] for row in rows}
    table = []
    for name, values in [*found.items(), ("all", everything)]:
        for row in rows:
            gains = [100 * (a - b) for a, b in zip(values[row], values[rows[0]], strict=True)]
            at = {"data": name, "row": row, "accuracy": round(100 * fmean(values[row]), 1)}
            gain = {"gain": round(fmean(gains), 2), "interval": round(half_width(gains), 2)}
            table.append(at | gain)
    return table


def main() -> None:
    args = arguments(
        __doc__,
        "data+",
        models=(str, "files, with commas between"),
        steps=[0, 5],
        way=5,
        shot=5,
        queries=10,
        tasks=10,
        maps=(Path, "a folder to keep the maps in"),
        seed=0,
    )
    emit("film_steps", vars(args), summary(measure(args)))


if __name__ == "__main__":
    main()
