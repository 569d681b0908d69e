"""What refinement is worth: gradient steps beside one pass, on the same tasks.

    python -m benchmarks.accuracy.refining default DATA/clothing DATA/eth80 --log rows.jsonl \
        --shots 5,10 --tasks 30 --rows "auto,top stage"

Rows (`ROWS`) say what moves, or `film`, which is how `adapt --refine` steps on FiLM alone; each is
looked at after `--looks` steps. `auto` and `on` are all of `adapt --refine auto` and `on`: folds,
number of steps, and the accuracy that is expected beside the true one; `on` tells what `auto` comes
to, too. Seconds are of the processor. `--log` keeps what is done: an interrupted run goes on
where it was.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random
from statistics import fmean

import torch
from torch import Tensor

from benchmarks.common import Row, RowLog, emit, gain, say
from benchmarks.personal_tasks import Images, deal, task_arguments
from fewshot_lite.heads.base import Head, SupportSet
from fewshot_lite.heads.choice import choose_head
from fewshot_lite.learners.base import TaskClassifier
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
    "top nine FiLM": (9, "film"),
}


class Task:
    """One task: what one pass makes of it, and what rows make of that."""

    def __init__(
        self, model: MetaModel, support: Tensor, labels: Tensor, looks: Sequence[int]
    ) -> None:
        self.model, self.learner, self.looks = model, model.learner, looks
        self.classes = int(labels.max()) + 1
        self.start = adapt_in_one_pass(
            self.learner, support, labels, self.classes, by_onnxruntime=True
        )

    def answers(self, row: str, below: Tensor) -> list[tuple[Row, Tensor]]:
        """What to record, and logits (Q, K) of queries, of which `below` is the lower map."""
        if row == "one pass":
            return [({"row": row}, self._refitted(self.start.classifier, below))]
        return (self._adapted if row in ("auto", "on") else self._steps)(row, below)

    def _steps(self, row: str, below: Tensor) -> list[tuple[Row, Tensor]]:
        found: list[tuple[Row, Tensor]] = []
        settings = self.model.refinement("film")
        if row != "film":
            (top, moves), stages = ROWS[row], len(Staged(self.learner.backbone).stages)
            pattern = "0" * (stages - top) + "1" * (top + 1)
            settings = Refinement(moves=moves, pattern=pattern)
        settings = replace(settings, steps=max(self.looks))
        learner, since = RefinedLearner(self.learner, settings), time.process_time()

        def look(steps: int, adapted: TaskClassifier) -> None:
            nonlocal since
            now = time.process_time()
            at: Row = {"row": row, "steps": steps, "seconds": now - since}
            found.append((at, self._refitted(adapted, below)))
            since += time.process_time() - now  # looking does not count

        start = self.start
        maps = learner.upper_maps(start.classifier, start.maps)
        given = start.classifier, maps, start.labels, self.classes, start.groups
        learner.refine(*given, looks=self.looks, look=look)
        return found

    def _adapted(self, refine: str, below: Tensor) -> list[tuple[Row, Tensor]]:
        since = time.process_time()
        model = self.model
        learner = RefinedLearner(self.learner, model.refinement(), image_size=model.image_size)
        found = refine_support(learner, self.start, always=refine == "on")
        record = found.record["refined"]
        row: Row = {"row": refine, "steps": record["steps"], "seconds": time.process_time() - since}
        shares, losses = record["left_out_accuracy"], record["left_out_loss"]
        row["expected"] = shares.get(after := str(record["steps"]))  # none at one shot
        in_one_pass = self._refitted(self.start.classifier, below)
        if not record["steps"]:
            return [(row, in_one_pass)]
        refined = self._named(found.choice.head, found.classifier, below)
        if refine == "auto" or not losses:
            return [(row, refined)]
        better = (shares[after], -losses[after]) > (shares["0"], -losses["0"])
        if not better or shares["0"] == 1:
            auto = {"row": "auto", "steps": 0, "expected": shares["0"]}
            return [(row, refined), (auto, in_one_pass)]
        return [(row, refined), ({**row, "row": "auto"}, refined)]

    def _refitted(self, adapted: TaskClassifier, below: Tensor) -> Tensor:
        """By the heads that `adapt` takes, fitted to these features."""
        given = adapted.support_features, self.start.labels, self.classes, self.start.groups
        choice = choose_head("default", self.learner.head, SupportSet(*given))
        return self._named(choice.head, adapted, below)

    def _named(self, head: Head, adapted: TaskClassifier, below: Tensor) -> Tensor:
        statistics = head.fit(adapted.support_features, self.start.labels, self.classes)
        return head.logits(statistics, adapted.features_from_maps(below))


def measure(args: argparse.Namespace) -> list[Row]:
    """Every row of every task that the log does not hold, and those that it holds."""
    log = RowLog(args.log)
    done = {(*key(row), row["row"]) for row in log.rows}
    model = MetaModel.load(args.model)
    model.learner.requires_grad_(False)
    sets = {path.name: Images.read(path, model.image_size) for path in args.data}
    # Of all sets in turn: half a run tells of all of them, too.
    for number, shot, name in product(range(args.tasks), args.shots, sets):
        at = {"data": name, "shot": shot, "task": number}
        todo = [row for row in args.rows if (*key(at), row) not in done]
        if not todo:
            continue
        data, random = sets[name], Random(f"{args.seed}/{name}/{shot}/{number}")
        enough = [group for group in data.groups if len(group) > shot]
        groups = random.sample(enough, min(args.way, len(enough)))
        drawn = [random.sample(group, len(group)) for group in groups]
        support, labels, asked, truth = deal(drawn, [shot] * len(drawn), args.queries)
        task = Task(model, data.images[support], torch.tensor(labels), args.looks)
        below, right = model.learner.lower_maps(data.images[asked]), torch.tensor(truth)
        for row in todo:
            log.add(
                [
                    at | found | {"right": float((logits.argmax(1) == right).double().mean())}
                    for found, logits in task.answers(row, below)
                ]
            )
        say(f"{name}, {shot} shots, task {number + 1}")
    return log.rows


def summary(rows: list[Row]) -> list[Row]:
    """For each number of shots, data set and all of them: gains over one pass, task by task."""
    before = {key(row): row["right"] for row in rows if row["row"] == "one pass"}
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        steps = "chosen" if row["row"] in ("auto", "on") else row.get("steps", 0)
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
    right = [row["right"] for row in rows]
    mean, interval = gain(right, [before[key(row)] for row in rows])
    found: Row = {
        "tasks": len(rows),
        "accuracy": round(100 * fmean(right), 1),
        "gain": mean,
        "interval": interval,
        "seconds": round(fmean(row.get("seconds", 0.0) for row in rows), 2),
    }
    refined = [row for row in rows if row.get("expected") is not None and row["steps"]]
    if refined:
        found["refined"] = len(refined)
        found["expected of these"] = round(100 * fmean(row["expected"] for row in refined), 1)
        found["true of these"] = round(100 * fmean(row["right"] for row in refined), 1)
    return found


def main() -> None:
    args = task_arguments(
        __doc__,
        queries=12,
        rows="auto,top stage",
        looks=[5, 10, 20, 30, 60],
        log=Path("refining.jsonl"),
    )
    args.rows = ["one pass", *args.rows.split(",")]
    emit("refining", vars(args), summary(measure(args)))


if __name__ == "__main__":
    main()
