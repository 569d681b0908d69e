"""Heads on the same cached features of a checkpoint: accuracy, and calibration of probabilities.

    python benchmarks/heads.py MODEL DATA [DATA ...] --shots 1,5,10 --tasks 100

Tasks have all classes of a set up to `--way`. The backbone is adapted by FiLM once a task, and all
rows see the same features; the rows "…, no FiLM" see those of the backbone as it is, and
`--no-film` prints these alone, of features computed once a set. Networks run in bfloat16 where that
is faster (`adapt` itself does not). "default" is what `adapt` uses, "auto" what `adapt --head auto`
chooses on the support set of each task. "paired" is the row minus the model's own head, task by
task, with its 95 % interval, 1.96·std/√tasks; of the means over sets, √(Σ variance of a set's mean)
takes the place of std/√tasks.

"ece" is the expected calibration error (15 bins, over all queries of a set) with the temperature
fitted on the support set, "ece_before" with the head's constants. No constant of a head is chosen
on brain-mri or on novel classes.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from scores import bare_features, cast_for, minus, percent
from torch import Tensor

from common import check_arguments, emit, open_data
from fewshot_lite.core.config import HeadName
from fewshot_lite.core.devices import pick_device
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.evaluation.accuracy import Score, fixed_episodes, make_task
from fewshot_lite.evaluation.scores import TaskScore, calibration_error, judge
from fewshot_lite.heads.calibration import scaled
from fewshot_lite.heads.choice import Choice, choose_head
from fewshot_lite.heads.registry import AnyHead
from fewshot_lite.learners.base import map_batches
from fewshot_lite.personal.meta_model import MetaModel

_HEADS: tuple[HeadName, ...] = ("mahalanobis", "cosine", "euclidean", "linear", "default", "auto")
_OWN = "own head"
_UNADAPTED = ", no FiLM"


@dataclass
class Row:
    """One head on the tasks of one set and number of shots."""

    before: list[TaskScore] = field(default_factory=list)
    after: list[TaskScore] = field(default_factory=list)
    losses: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0

    def accuracies(self) -> list[float]:
        """Of the tasks, in their order."""
        return [score.units[0] for score in self.after]


class Cell:
    """Heads on the tasks of one set and number of shots; one row is what others are paired with."""

    def __init__(self, heads: tuple[HeadName, ...], reference: str) -> None:
        self.heads, self.reference = heads, reference
        self.rows: defaultdict[str, Row] = defaultdict(Row)
        self.chosen: Counter[str] = Counter()

    def add(
        self, own: AnyHead, support: Tensor, labels: Tensor, query: Tensor, truth: Tensor, end: str
    ) -> None:
        """Score every head on the features of one task."""
        classes = int(labels.max()) + 1
        self._score(_OWN + end, Choice(own, _OWN), support, labels, query, truth)
        for name in self.heads:
            start = time.perf_counter()
            choice = choose_head(name, own, support, labels, classes)
            self.rows[name + end].seconds += time.perf_counter() - start
            self._score(name + end, choice, support, labels, query, truth)
            if name == "auto" and end == self.reference.removeprefix(_OWN):
                self.chosen[choice.name] += 1

    def _score(
        self,
        name: str,
        choice: Choice,
        support: Tensor,
        labels: Tensor,
        query: Tensor,
        truth: Tensor,
    ) -> None:
        head = scaled(choice.head, 1 / choice.factor)
        logits = head.logits(head.fit(support, labels, int(labels.max()) + 1), query)
        answers = truth.tolist()
        row = self.rows[name]
        row.before.append(judge(logits, answers, (), None))
        row.after.append(judge(choice.factor * logits, answers, (), None))
        loss = torch.nn.functional.cross_entropy
        row.losses.append((float(loss(logits, truth)), float(loss(choice.factor * logits, truth))))

    def to_json(self) -> dict[str, Any]:
        """Figures of each row, in %."""
        return {name: self._figures(row) for name, row in self.rows.items()}

    def differences(self, name: str) -> Score:
        """A row minus the reference."""
        own = Score(tuple(self.rows[self.reference].accuracies()))
        return minus(Score(tuple(self.rows[name].accuracies())), own)

    def _figures(self, row: Row) -> dict[str, float]:
        name = next(n for n, r in self.rows.items() if r is row)
        score, paired = Score(tuple(row.accuracies())), self.differences(name)
        tasks = len(row.losses)
        return {
            **percent(score),
            **percent(paired, "paired", "paired_interval"),
            "ece_before": round(calibration_error(row.before), 4),
            "ece": round(calibration_error(row.after), 4),
            "loss_before": round(sum(before for before, _ in row.losses) / tasks, 4),
            "loss": round(sum(after for _, after in row.losses) / tasks, 4),
            "choose_ms": round(1000 * row.seconds / tasks, 1),
        }


def mean_over_sets(cells: list[Cell]) -> dict[str, dict[str, float]]:
    """Each row's mean over sets, every set weighing the same."""
    means: dict[str, dict[str, float]] = {}
    for name in cells[0].rows:
        figures = [cell.to_json()[name] for cell in cells]
        mean = {key: round(sum(f[key] for f in figures) / len(figures), 4) for key in figures[0]}
        for key in ("interval", "paired_interval"):
            mean[key] = round(math.sqrt(sum(f[key] ** 2 for f in figures)) / len(figures), 2)
        means[name] = mean
    return means


def run_set(model: MetaModel, path: Path, args: argparse.Namespace) -> dict[int, Cell]:
    """All shots of one data set."""
    learner, device = model.learner, pick_device("cpu")
    cast = cast_for(learner.backbone, device)
    folder, store, pool = open_data(path, model.image_size)
    bare = bare_features(learner.backbone, store, device)
    film = learner.has_set_encoder and not args.no_film
    smallest = min(sum(len(group) for group in groups) for groups in pool.groups)
    cells = {}
    for shot in args.shots:
        queries = min(args.queries, smallest - shot)
        if queries < 1:
            print(f"{folder.name}: too few photos for {shot} shots", file=sys.stderr, flush=True)
            continue
        cell = cells[shot] = Cell(args.heads, _OWN if film else _OWN + _UNADAPTED)
        way = min(args.way, pool.classes)
        for episode in fixed_episodes(
            pool, way=way, shot=shot, queries=queries, tasks=args.tasks, seed=args.seed
        ):
            labels, truth = (
                torch.tensor(x) for x in (episode.support_labels, episode.query_labels)
            )
            if film:
                task = make_task(store, episode)
                adapted = learner.adapt(task.support, labels, task.classes, cast=cast)

                def features(images: Tensor, theta: Any = adapted.parameters) -> Tensor:
                    return learner.features(learner.lower(images), theta)

                query = map_batches(features, task.query, 64, cast)
                cell.add(learner.head, adapted.support_features, labels, query, truth, "")
            support, query = bare[episode.support], bare[episode.query]
            cell.add(learner.head, support, labels, query, truth, _UNADAPTED)
        print(f"{folder.name}, {shot} shots: done", file=sys.stderr, flush=True)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--way", type=int, default=20)
    parser.add_argument("--shots", default="1,5,10")
    parser.add_argument("--queries", type=int, default=3, help="a class")
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--heads", default=",".join(_HEADS), help="besides the model's own")
    parser.add_argument("--no-film", action="store_true", help="the backbone as it is alone")
    args = parser.parse_args()
    args.heads = tuple(args.heads.split(","))
    if not set(args.heads) <= set(_HEADS):
        parser.error(f"--heads: choose among {', '.join(_HEADS)}")

    check_arguments(parser, args)
    try:
        model = MetaModel.load(args.model)
    except FewshotError as error:
        parser.error(str(error))
    sets = {path.name: run_set(model, path, args) for path in args.data}
    shots = sorted({shot for cells in sets.values() for shot in cells})
    result = {
        "means": {
            str(shot): mean_over_sets([cells[shot] for cells in sets.values() if shot in cells])
            for shot in shots
        },
        "sets": {
            name: {str(shot): cell.to_json() for shot, cell in cells.items()}
            for name, cells in sets.items()
        },
        "chosen_by_auto": {
            name: {str(shot): dict(cell.chosen) for shot, cell in cells.items()}
            for name, cells in sets.items()
        },
    }
    emit("heads", vars(args), result)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
