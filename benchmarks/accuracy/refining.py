"""What refinement is worth: gradient steps beside one pass, on the same tasks.

    python -m benchmarks.accuracy.refining default DATA/clothing DATA/eth80 --log rows.jsonl \
        --shots 5,10 --tasks 30 --rows "auto,top stage"

Rows (`ROWS`) say what moves; each is looked at after `--looks` steps. The file of a model that
adapts by gradient itself is a row, too: it takes its own steps. `auto` is all of
`adapt --refine auto`: its folds, its number of steps, and the accuracy that it expects beside the
true one. Seconds are of the processor. `--log` keeps what is done, so that an interrupted run goes
on where it was. `--memory 25,1000` prints what refining so many photos holds at most instead.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from statistics import fmean

import torch
from torch import Tensor

from benchmarks.common import Row, emit, mebibytes, peak, point, random_images, say
from benchmarks.personal_tasks import Images, task_arguments
from fewshot_lite.core.intervals import half_width
from fewshot_lite.heads.base import Head
from fewshot_lite.heads.choice import choose_head
from fewshot_lite.learners.base import TaskClassifier
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.refined import Moves, RefinedLearner, Refinement
from fewshot_lite.networks.stages import Staged
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.one_pass import adapt_in_one_pass
from fewshot_lite.personal.refining import refine_support

#: How many stages move, from the top, and what of them, by the names of rows.
ROWS: dict[str, tuple[int, Moves]] = {
    "top stage": (1, "weights"),
    "top stage FiLM": (1, "film"),
    "top two": (2, "weights"),
    "top two FiLM": (2, "film"),
    "top five": (5, "weights"),
    "top five FiLM": (5, "film"),
}


def settings(row: str, stages: int, steps: int) -> Refinement:
    top, moves = ROWS[row]
    return Refinement(steps=steps, moves=moves, pattern="0" * (stages - top) + "1" * top + "1")


@functools.cache
def gradient_learner(path: str) -> GradientLearner:
    learner = MetaModel.load(path).learner
    assert isinstance(learner, GradientLearner), f"{path}: does not adapt by gradient"
    return learner


class Clock:
    """Seconds of the processor, but for what is not to be counted."""

    def __init__(self) -> None:
        self._since = time.process_time()

    @property
    def seconds(self) -> float:
        return time.process_time() - self._since

    @contextmanager
    def stopped(self) -> Iterator[None]:
        before = time.process_time()
        yield
        self._since += time.process_time() - before


class Task:
    """One task: what one pass makes of it, and what rows make of that."""

    def __init__(
        self, model: MetaModel, support: Tensor, labels: Tensor, looks: Sequence[int] = ()
    ) -> None:
        self.looks, self.support, self.labels = looks, support, labels
        self.learner, self.classes = model.learner, int(labels.max()) + 1
        self.start = adapt_in_one_pass(
            self.learner, support, labels, self.classes, by_onnxruntime=True
        )

    def answers(self, row: str, below: Tensor, queries: Tensor) -> Iterator[tuple[Row, Tensor]]:
        """What to record, and logits (Q, K) of queries, of which `below` is the lower map."""
        if row == "one pass":
            yield {"row": row}, self._refitted(self.start.classifier, below)
        elif row == "auto":
            yield self._auto(below)
        elif row.endswith(".safetensors"):
            yield self._by_itself(row, queries)
        else:
            yield from self._steps(row, below)

    def _steps(self, row: str, below: Tensor) -> Iterator[tuple[Row, Tensor]]:
        found: list[tuple[Row, Tensor]] = []
        stages = len(Staged(self.learner.backbone).stages)
        learner, clock = (
            RefinedLearner(self.learner, settings(row, stages, max(self.looks))),
            Clock(),
        )

        def look(steps: int, adapted: TaskClassifier) -> None:
            with clock.stopped():
                at: Row = {"row": row, "steps": steps, "seconds": clock.seconds}
                found.append((at, self._refitted(adapted, below)))

        start = self.start
        maps = learner.upper_maps(start.classifier, start.maps)
        given = start.classifier, maps, start.labels, self.classes, start.groups
        learner.refine(*given, looks=self.looks, look=look)
        yield from found

    def _by_itself(self, row: str, queries: Tensor) -> tuple[Row, Tensor]:
        learner, clock = gradient_learner(row), Clock()
        adapted = learner.adapt(self.support, self.labels, self.classes)
        found: Row = {"row": row, "steps": learner.inner_steps, "seconds": clock.seconds}
        return found, adapted.logits(queries)

    def _auto(self, below: Tensor) -> tuple[Row, Tensor]:
        clock = Clock()
        found = refine_support(RefinedLearner(self.learner), self.start, always=False)
        record = found.record["refined"]
        row: Row = {"row": "auto", "steps": record["steps"], "seconds": clock.seconds}
        row["expected"] = record["left_out_accuracy"].get(str(record["steps"]))  # none at one shot
        if not record["steps"]:
            return row, self._refitted(self.start.classifier, below)
        return row, self._named(found.choice.head, found.classifier, below)

    def _refitted(self, adapted: TaskClassifier, below: Tensor) -> Tensor:
        """By the heads that `adapt` takes, fitted to these features."""
        given = adapted.support_features, self.start.labels, self.classes
        choice = choose_head("default", self.learner.head, *given, self.start.groups)
        return self._named(choice.head, adapted, below)

    def _named(self, head: Head, adapted: TaskClassifier, below: Tensor) -> Tensor:
        statistics = head.fit(adapted.support_features, self.start.labels, self.classes)
        return head.logits(statistics, adapted.features_from_maps(below))


def draw(data: Images, name: str, shot: int, number: int, args: argparse.Namespace) -> list[Tensor]:
    """Support images and labels, and those of queries."""
    random = Random(f"{args.seed}/{name}/{shot}/{number}")
    enough = [k for k, group in enumerate(data.groups) if len(group) > shot]
    classes = random.sample(enough, min(args.way, len(enough)))
    drawn = [random.sample(data.groups[k], len(data.groups[k])) for k in classes]
    found: list[Tensor] = []
    for part in (slice(shot), slice(shot, shot + args.queries)):
        rows = [i for group in drawn for i in group[part]]
        labels = [k for k, group in enumerate(drawn) for _ in group[part]]
        found += [data.images[rows], torch.tensor(labels)]
    return found


def measure(args: argparse.Namespace) -> Iterator[Row]:
    """Every row of every task that the log does not hold."""
    known = [json.loads(line) for line in args.log.open()] if args.log.exists() else []
    yield from known
    done = {(row["data"], row["shot"], row["task"], row["row"]) for row in known}
    model = MetaModel.load(args.model)
    model.learner.requires_grad_(False)
    sets = {path.name: Images.read(path, model.image_size) for path in args.data}
    for number in range(args.tasks):  # of all sets in turn: half a run tells of all of them, too
        for shot in args.shots:
            for name, data in sets.items():
                at = {"data": name, "shot": shot, "task": number}
                todo = [row for row in args.rows if (*at.values(), row) not in done]
                if not todo:
                    continue
                support, labels, queries, truth = draw(data, name, shot, number, args)
                task = Task(model, support, labels, args.looks)
                below = model.learner.lower_maps(queries)
                for row in todo:
                    rows = [
                        at | found | {"right": float((logits.argmax(1) == truth).double().mean())}
                        for found, logits in task.answers(row, below, queries)
                    ]
                    with args.log.open("a") as log:  # at once, so that none is kept in part
                        log.write("".join(json.dumps(row) + "\n" for row in rows))
                    yield from rows
                say(f"{name}, {shot} shots, task {number + 1}")


def summary(rows: list[Row]) -> list[Row]:
    """For each number of shots, data set and all of them: gains over one pass, task by task."""
    before = {key(row): row["right"] for row in rows if row["row"] == "one pass"}
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        steps = "chosen" if row["row"] == "auto" else row.get("steps", 0)
        for data in (row["data"], "all"):
            groups[row["shot"], data, row["row"], steps].append(row)
    return [
        {"shot": shot, "data": data, "row": name, "steps": steps, **of_group(found, before)}
        for (shot, data, name, steps), found in groups.items()
    ]


def key(row: Row) -> tuple[object, ...]:
    return row["data"], row["shot"], row["task"]


def of_group(rows: list[Row], before: dict[tuple[object, ...], float]) -> Row:
    """Percent and points; intervals are of 95 %."""
    gains = [100 * (row["right"] - before[key(row)]) for row in rows]
    found: Row = {
        "tasks": len(rows),
        "accuracy": round(100 * fmean(row["right"] for row in rows), 1),
        "gain": round(fmean(gains), 2),
        "interval": round(half_width(gains), 2),
        "seconds": round(fmean(row.get("seconds", 0.0) for row in rows), 2),
    }
    refined = [row for row in rows if row.get("expected") is not None and row["steps"]]
    if refined:
        found["refined"] = len(refined)
        found["expected of these"] = round(100 * fmean(row["expected"] for row in refined), 1)
        found["true of these"] = round(100 * fmean(row["right"] for row in refined), 1)
    return found


def hold(photos: int, model: MetaModel) -> Row:
    """Most memory before and after refining so many photos of random bytes in five classes."""
    labels = torch.arange(photos) % 5
    task = Task(model, random_images(photos, model.image_size), labels)
    before = peak()
    refine_support(RefinedLearner(task.learner), task.start, always=True)
    return {"photos": photos, "one pass MiB": mebibytes(before), "MiB": mebibytes(peak())}


def main() -> None:
    args = task_arguments(
        __doc__,
        queries=12,
        rows="auto,top stage",
        looks=[5, 10, 20, 30, 60],
        log=Path("refining.jsonl"),
        memory=([], "numbers of photos to measure memory at, instead"),
    )
    args.rows = ["one pass", *args.rows.split(",")]
    if args.point:
        print(json.dumps(hold(int(args.point[0]), MetaModel.load(args.model))))
    elif args.memory:
        found = [point("benchmarks.accuracy.refining", n) for n in args.memory]
        emit("refining", vars(args), found)
    else:
        emit("refining", vars(args), summary(list(measure(args))))


if __name__ == "__main__":
    main()
