"""The results of a comparison: means, intervals, paired differences, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from fewshot_lite.core.intervals import mean_of_means
from fewshot_lite.evaluation.cost import Cost, mean_cost, typical_cost
from fewshot_lite.evaluation.scores import TaskRecord, calibration_error


@dataclass(frozen=True)
class Figure:
    """A mean with half of its 95 % interval (NaN where it has none), in 0..1."""

    mean: float
    interval: float

    def to_json(self) -> dict[str, float]:
        """Return the fields as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """The mean of accuracy of model `a` minus that of `b`, task by task."""

    a: str
    b: str
    figure: Figure


@dataclass(frozen=True)
class Section:
    """A row of the tables: a group of tasks, or several groups together."""

    name: str
    groups: tuple[str, ...]
    way: tuple[int, int]
    """Fewest and most classes of a task."""
    shot: float
    """Support images of a class, on average."""
    tasks: int
    accuracy: dict[str, Figure]
    calibration: dict[str, float]
    costs: dict[str, Cost]
    """The typical cost of each group, averaged over groups."""
    differences: tuple[Difference, ...]
    """One for each pair of models, in their order."""

    def difference(self, model: str, reference: str) -> Figure | None:
        """Return the accuracy of `model` minus that of `reference`; None for the same model."""
        for pair in self.differences:
            if (pair.a, pair.b) == (model, reference):
                return pair.figure
            if (pair.b, pair.a) == (model, reference):
                return Figure(-pair.figure.mean, pair.figure.interval)
        return None

    def to_json(self) -> dict[str, Any]:
        """Return all results as JSON-able values."""
        return {
            "name": self.name,
            "groups": list(self.groups),
            "way": list(self.way),
            "shot": self.shot,
            "models": [
                {
                    "name": name,
                    "tasks": self.tasks,
                    "accuracy": figure.to_json(),
                    "calibration_error": self.calibration[name],
                    "cost": asdict(self.costs[name]),
                }
                for name, figure in self.accuracy.items()
            ],
            "differences": [
                {"a": pair.a, "b": pair.b, **pair.figure.to_json()} for pair in self.differences
            ],
        }


@dataclass(frozen=True)
class Comparison:
    """The results of a comparison."""

    protocol: str
    models: tuple[dict[str, Any], ...]
    """The descriptions of the models; see `opening.Opened`."""
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    costs: dict[str, Cost]
    finished: bool

    @property
    def names(self) -> list[str]:
        """The names of the models."""
        return [model["name"] for model in self.models]

    def to_json(self) -> dict[str, Any]:
        """Return all results as JSON-able values."""
        return {
            "protocol": self.protocol,
            "finished": self.finished,
            "notes": list(self.notes),
            "models": [
                {**model, "cost": asdict(self.costs[model["name"]])} for model in self.models
            ],
            "sections": [section.to_json() for section in self.sections],
        }


def compare(
    records: Sequence[TaskRecord],
    models: Sequence[dict[str, Any]],
    *,
    protocol: str,
    sections: Mapping[str, Sequence[str]],
    normal: bool = False,
    notes: Sequence[str] = (),
    finished: bool = True,
) -> Comparison:
    """Summarise the records of tasks.

    Args:
        records: those of the finished tasks.
        models: descriptions, each with a "name".
        sections: the groups of each further section, by its name. Its mean is that of the groups'
            means; where tasks are scored by parts (videos), each part of each task counts alike, as
            ORBIT has it.
        normal: whether intervals are 1.96·std/√n, as in some published protocols; else by
            Student's t where tasks are few.
    """
    names = [model["name"] for model in models]
    groups = list(dict.fromkeys(record.group for record in records))
    members_of: dict[str, tuple[str, ...]] = {group: (group,) for group in groups}
    for name, members in sections.items():
        present = tuple(group for group in members if group in groups)
        if len(present) > 1:
            members_of[name] = present
    by_group = {group: [r for r in records if r.group == group] for group in groups}
    rows = [
        _section(name, {group: by_group[group] for group in members}, names, normal)
        for name, members in members_of.items()
    ]
    costs = _costs(list(by_group.values()), names)
    return Comparison(protocol, tuple(models), tuple(notes), tuple(rows), costs, finished)


def _section(
    name: str, groups: Mapping[str, Sequence[TaskRecord]], names: Sequence[str], normal: bool
) -> Section:
    by_group = list(groups.values())
    all_records = [record for part in by_group for record in part]
    scores = {n: [r.scores[n] for r in all_records] for n in names}
    ways = [record.way for record in all_records]
    return Section(
        name=name,
        groups=tuple(groups),
        way=(min(ways), max(ways)),
        shot=sum(r.support / r.way for r in all_records) / len(all_records),
        tasks=len(all_records),
        accuracy={n: _figure(by_group, normal, n) for n in names},
        calibration={n: calibration_error(s) for n, s in scores.items()},
        costs=_costs(by_group, names),
        differences=tuple(
            Difference(a, b, _figure(by_group, normal, a, b)) for a, b in combinations(names, 2)
        ),
    )


def _figure(
    by_group: Sequence[Sequence[TaskRecord]], normal: bool, a: str, b: str | None = None
) -> Figure:
    """Return the mean accuracy of a model, or of its difference to another, over groups."""

    def units(record: TaskRecord) -> Sequence[float]:
        units_a = record.scores[a].units
        if b is None:
            return units_a
        return [x - y for x, y in zip(units_a, record.scores[b].units, strict=True)]

    parts = [[unit for record in group for unit in units(record)] for group in by_group]
    if any(len(units(record)) > 1 for group in by_group for record in group):
        parts = [[unit for part in parts for unit in part]]
    return Figure(*mean_of_means(parts, normal=normal))


def _costs(by_group: Sequence[Sequence[TaskRecord]], names: Sequence[str]) -> dict[str, Cost]:
    def costs(group: Sequence[TaskRecord], name: str) -> list[Cost]:
        return [cost for record in group if (cost := record.scores[name].cost) is not None]

    return {n: mean_cost([typical_cost(costs(group, n)) for group in by_group]) for n in names}
