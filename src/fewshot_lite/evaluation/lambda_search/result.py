"""The result of a pattern search: the front of accuracy and time, the chosen pattern, a plot."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewshot_lite.core import jsons as plain_json
from fewshot_lite.core.figures import require_matplotlib, save_figure
from fewshot_lite.core.files import find_base
from fewshot_lite.evaluation.lambda_search.measuring import Measured
from fewshot_lite.evaluation.lambda_search.options import SearchOptions, parse_searched
from fewshot_lite.evaluation.names import REFINE
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.personal.meta_model import REFINE_PATTERN, MetaModel

#: Times that differ by at most this share of the full pattern's time count as the same.
ALIKE = 0.01


@dataclass(frozen=True)
class Search:
    """The result of a pattern search."""

    model: str
    layers: tuple[str, ...]
    inner_steps: int
    way: int
    options: SearchOptions
    data: tuple[str, ...]
    """Names of the data sets."""
    measured: tuple[Measured, ...]
    """Each pattern once, the full one first."""
    greedy: bool
    finished: bool
    unreadable: dict[Path, str] = field(default_factory=dict)
    """Photos left out, and why."""

    @property
    def full(self) -> Measured:
        """The pattern of all layers, with which the others are compared."""
        return self.measured[0]

    @property
    def chosen(self) -> Measured:
        """The fastest pattern whose mean accuracy is within `max_drop` of the full one's.

        Among those as fast within 1 % of the full one's time, the most accurate.
        """
        least = self.full.accuracy.mean - self.options.max_drop - 1e-9
        allowed = [m for m in self.measured if m.accuracy.mean >= least]
        fastest = min(m.ratio for m in allowed)
        alike = [m for m in allowed if m.ratio <= fastest + ALIKE]
        return max(alike, key=lambda m: (m.accuracy.mean, -m.ratio))

    @property
    def front(self) -> tuple[Measured, ...]:
        """The patterns that none beats in both accuracy and time, the fastest first."""
        front: list[Measured] = []
        for one in sorted(self.measured, key=lambda m: (m.ratio, -m.accuracy.mean)):
            if not front or one.accuracy.mean > front[-1].accuracy.mean:
                front.append(one)
        return tuple(front)

    def to_json(self) -> dict[str, Any]:
        """Return all results as JSON-able values."""
        return {
            **self.record(),
            "finished": self.finished,
            "patterns": [m.to_json(self.full) for m in self.measured],
        }

    def record(self) -> dict[str, Any]:
        """Return the record for a checkpoint: the settings of the search, the front, the choice."""
        record = {
            "model": self.model,
            "layers": list(self.layers),
            "data": list(self.data),
            **self.options.__dict__,
            "way": self.way,
            "inner_steps": self.inner_steps,
            "search": "greedy" if self.greedy else "all",
            "full": self.full.to_json(self.full),
            "chosen": self.chosen.to_json(self.full),
            "front": [m.to_json(self.full) for m in self.front],
        }
        # The interval of a single task is NaN, which JSON has not.
        plain: dict[str, Any] = json.loads(plain_json.dumps(record))
        return plain


def store(search: Search, path: Path) -> None:
    """Write the searched checkpoint with the chosen pattern, the inner steps and a record.

    A refined model keeps its number of steps: only the pattern is stored.

    Args:
        search: a finished search of a checkpoint.
        path: a new file or the checkpoint itself.

    Raises:
        ValueError: a search of fine-tuning, or one that was interrupted.
        FewshotError: it cannot be written.
    """
    if not search.finished:
        raise ValueError("the search was interrupted")
    name = parse_searched(search.model)
    model = MetaModel.load(find_base(name.base))
    learner = model.learner
    if name.baseline == REFINE:
        model.record[REFINE_PATTERN] = search.chosen.pattern
    elif isinstance(learner, GradientLearner):
        learner.inner_steps = search.inner_steps
        learner.set_pattern(search.chosen.pattern)
    else:
        raise ValueError(f"{search.model} has no pattern to store")
    model.record["lambda_search"] = search.record()
    model.save(path)


def write_plot(search: Search, path: Path) -> None:
    """Plot every pattern as a point, and the front as a line labelled with its patterns.

    Raises:
        FewshotError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(7, 4.5), layout="constrained")
    axes = canvas.subplots()
    points = [(m.ms, 100 * m.accuracy.mean) for m in search.measured]
    axes.plot(*zip(*points, strict=True), ".", color="0.7", label="patterns")
    front = [(m.ms, 100 * m.accuracy.mean) for m in search.front]
    axes.plot(*zip(*front, strict=True), "o-", color="C0", label="front", markersize=4)
    for one in search.front:
        place = (one.ms, 100 * one.accuracy.mean)
        axes.annotate(one.pattern, place, (3, -9), textcoords="offset points", fontsize=7)
    for one, name, marker in ((search.full, "full", "s"), (search.chosen, "chosen", "*")):
        figure = one.accuracy
        bar = 0.0 if math.isnan(figure.interval) else 100 * figure.interval
        axes.errorbar(
            one.ms,
            100 * figure.mean,
            bar,
            fmt=marker,
            color="C3" if name == "chosen" else "k",
            capsize=3,
            label=f"{name}: {one.pattern}",
        )
    least = 100 * (search.full.accuracy.mean - search.options.max_drop)
    axes.axhline(least, color="0.5", linestyle=":", linewidth=1, label="least allowed")
    axes.set_xscale("log")
    axes.set_xlabel("ms to adapt (median)")
    axes.set_ylabel("accuracy (%)")
    axes.legend(fontsize=8)
    save_figure(canvas, path)
