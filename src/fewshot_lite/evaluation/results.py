"""What a comparison comes to: means, intervals, paired differences, costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from statistics import fmean, median
from typing import Any

from fewshot_lite.evaluation.accuracy import Score
from fewshot_lite.evaluation.scores import TaskRecord, calibration_error


@dataclass(frozen=True)
class Figure:
    """A mean with half of its 95 % interval (NaN where there is one value only), in 0..1."""

    mean: float
    interval: float

    def to_json(self) -> dict[str, float]:
        """As JSON."""
        return {"mean": self.mean, "interval": self.interval}


@dataclass(frozen=True)
class Difference:
    """Model `a` minus model `b` on the tasks that both took part in."""

    a: str
    b: str
    figure: Figure


@dataclass(frozen=True)
class ModelCost:
    """What a model costs, averaged over groups; None where nothing was measured."""

    adapt_ms: float | None
    """To adapt to a task; of each group the median over timed tasks."""
    query_ms: float | None
    bare_ms: float | None
    """The bare backbone on a query image, on the same tasks as `query_ms`."""
    adapt_macs: float | None
    """Of each group's first task."""
    query_macs: float | None
    peak_memory: int | None
    """The most of all."""


@dataclass(frozen=True)
class Section:
    """A line of the tables: a group of tasks, or several groups together."""

    name: str
    groups: tuple[str, ...]
    way: tuple[int, int]
    """Fewest and most classes of a task."""
    shot: float
    """Support images of a class, on average."""
    tasks: dict[str, int]
    accuracy: dict[str, Figure]
    calibration: dict[str, float]
    costs: dict[str, ModelCost]
    differences: tuple[Difference, ...]
    """Of each pair of models, in their order."""

    def difference(self, model: str, reference: str) -> Figure | None:
        """`model` minus `reference`."""
        for pair in self.differences:
            if (pair.a, pair.b) == (model, reference):
                return pair.figure
            if (pair.b, pair.a) == (model, reference):
                return Figure(-pair.figure.mean, pair.figure.interval)
        return None


@dataclass(frozen=True)
class Comparison:
    """All figures."""

    protocol: str
    models: tuple[dict[str, Any], ...]
    """As `opening.Opened` describes them."""
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    costs: dict[str, ModelCost]
    finished: bool

    @property
    def names(self) -> list[str]:
        """The models, in their order."""
        return [model["name"] for model in self.models]

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {
            "protocol": self.protocol,
            "finished": self.finished,
            "notes": list(self.notes),
            "models": [
                {**model, "cost": self.costs[model["name"]].__dict__} for model in self.models
            ],
            "sections": [_section_json(section) for section in self.sections],
        }


def compare(
    records: Sequence[TaskRecord],
    models: Sequence[dict[str, Any]],
    *,
    protocol: str,
    sections: Mapping[str, Sequence[str]],
    notes: Sequence[str] = (),
    finished: bool = True,
) -> Comparison:
    """Sum up what a run logged.

    Args:
        records: of the tasks that are done.
        models: their descriptions; each has a "name".
        sections: names of groups that are shown together -> their names, after the groups. Their
            mean is that of the groups' means; where tasks are scored by parts (videos), each part
            of each task counts alike, as ORBIT has it.
    """
    names = [model["name"] for model in models]
    groups = list(dict.fromkeys(record.group for record in records))
    wanted: dict[str, tuple[str, ...]] = {group: (group,) for group in groups}
    for name, members in sections.items():
        present = tuple(group for group in members if group in groups)
        if len(present) > 1:
            wanted[name] = present
    return Comparison(
        protocol=protocol,
        models=tuple(models),
        notes=tuple(notes),
        sections=tuple(_section(n, members, records, names) for n, members in wanted.items()),
        costs=_costs([[r for r in records if r.group == group] for group in groups], names),
        finished=finished,
    )


def _section(
    name: str, groups: tuple[str, ...], records: Sequence[TaskRecord], names: Sequence[str]
) -> Section:
    by_group = [[r for r in records if r.group == group] for group in groups]
    mine = [record for part in by_group for record in part]
    scores = {n: [r.scores[n] for r in mine if n in r.scores] for n in names}
    ways = [record.way for record in mine]
    return Section(
        name=name,
        groups=groups,
        way=(min(ways), max(ways)),
        shot=sum(r.support / r.way for r in mine) / len(mine),
        tasks={n: len(s) for n, s in scores.items()},
        accuracy={n: _figure(by_group, partial(_units, name=n)) for n in names},
        calibration={n: calibration_error(s) if s else math.nan for n, s in scores.items()},
        costs=_costs(by_group, names),
        differences=tuple(
            Difference(a, b, _figure(by_group, partial(_paired, a=a, b=b)))
            for a, b in combinations(names, 2)
        ),
    )


def _units(record: TaskRecord, name: str) -> tuple[float, ...]:
    return record.scores[name].units if name in record.scores else ()


def _paired(record: TaskRecord, a: str, b: str) -> tuple[float, ...]:
    if a not in record.scores or b not in record.scores:
        return ()
    pairs = zip(record.scores[a].units, record.scores[b].units, strict=True)
    return tuple(x - y for x, y in pairs)


def _figure(
    by_group: Sequence[Sequence[TaskRecord]], units: Callable[[TaskRecord], tuple[float, ...]]
) -> Figure:
    """Over the units of one group, or over the means of several."""
    parts = [[unit for record in group for unit in units(record)] for group in by_group]
    parts = [part for part in parts if part]
    if not parts:
        return Figure(math.nan, math.nan)
    if any(len(units(record)) > 1 for group in by_group for record in group):
        parts = [[unit for part in parts for unit in part]]
    scores = [Score(tuple(part)) for part in parts]
    return Figure(
        sum(score.mean for score in scores) / len(scores),
        math.sqrt(sum(score.interval**2 for score in scores)) / len(scores),
    )


def _costs(by_group: Sequence[Sequence[TaskRecord]], names: Sequence[str]) -> dict[str, ModelCost]:
    return {name: _mean_cost([_group_cost(group, name) for group in by_group]) for name in names}


def _group_cost(records: Sequence[TaskRecord], name: str) -> ModelCost:
    scores = [r.scores[name] for r in records if name in r.scores]
    costs = [score.cost for score in scores if score.cost is not None]
    # Counting takes time, so tasks that were counted are timed only where there are no others;
    # and the bare backbone's time is set beside that of the same tasks.
    timed = [cost for cost in costs if cost.bare_ms is not None]
    timed = timed or [cost for cost in costs if cost.adapt_macs is None] or costs
    return ModelCost(
        adapt_ms=_over(median, (cost.adapt_ms for cost in timed)),
        query_ms=_over(median, (cost.query_ms for cost in timed)),
        bare_ms=_over(median, (cost.bare_ms for cost in timed)),
        adapt_macs=_over(fmean, (cost.adapt_macs for cost in costs)),
        query_macs=_over(fmean, (cost.query_macs for cost in costs)),
        peak_memory=max((cost.peak_memory for cost in costs), default=None),
    )


def _mean_cost(costs: Sequence[ModelCost]) -> ModelCost:
    peaks = [cost.peak_memory for cost in costs if cost.peak_memory is not None]
    return ModelCost(
        adapt_ms=_over(fmean, (cost.adapt_ms for cost in costs)),
        query_ms=_over(fmean, (cost.query_ms for cost in costs)),
        bare_ms=_over(fmean, (cost.bare_ms for cost in costs)),
        adapt_macs=_over(fmean, (cost.adapt_macs for cost in costs)),
        query_macs=_over(fmean, (cost.query_macs for cost in costs)),
        peak_memory=max(peaks, default=None),
    )


def _over(average: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    """An average of what was measured."""
    measured = [value for value in values if value is not None]
    return average(measured) if measured else None


def _section_json(section: Section) -> dict[str, Any]:
    return {
        "name": section.name,
        "groups": list(section.groups),
        "way": list(section.way),
        "shot": section.shot,
        "models": [
            {
                "name": name,
                "tasks": section.tasks[name],
                "accuracy": section.accuracy[name].to_json(),
                "calibration_error": section.calibration[name],
                "cost": section.costs[name].__dict__,
            }
            for name in section.accuracy
        ],
        "differences": [
            {"a": pair.a, "b": pair.b, **pair.figure.to_json()} for pair in section.differences
        ],
    }
