"""A comparison as CSV, one row per section and model, and as a plot."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from statistics import fmean
from typing import Any

from fewshot_lite.core.figures import require_matplotlib, save_figure, to_draw
from fewshot_lite.core.files import atomic_path
from fewshot_lite.core.text import csv_cell
from fewshot_lite.evaluation.results import Comparison, Section

_COSTS = ("adapt_ms", "query_ms", "adapt_macs", "query_macs")
_COLUMNS = (
    *("section", "model", "tasks", "accuracy", "interval", "difference", "difference_interval"),
    *("calibration_error", *_COSTS, "parameters", "peak_memory"),
)


def write_csv(comparison: Comparison, path: Path, *, force: bool = False) -> None:
    """Write the figures; accuracies in 0..1, differences against the first model, memory in bytes.

    Values that were not measured, and missing intervals, are left empty.

    Raises:
        UsageError: the file exists, and `force` is not set.
    """
    reference = comparison.names[0]
    with (
        atomic_path(path, force=force) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for section in comparison.sections:
            for model in comparison.models:
                name = model["name"]
                accuracy, cost = section.accuracy[name], section.costs[name]
                difference = section.difference(name, reference)
                values = (
                    section.name,
                    name,
                    section.tasks,
                    accuracy.mean,
                    accuracy.interval,
                    difference.mean if difference else None,
                    difference.interval if difference else None,
                    section.calibration[name],
                    *(getattr(cost, column) for column in _COSTS),
                    model["parameters"],
                    cost.peak_memory,
                )
                writer.writerow(map(_cell, values))


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN
        return ""
    return f"{value:.6g}" if isinstance(value, float) else csv_cell(value)


def write_plot(comparison: Comparison, path: Path) -> None:
    """Plot accuracy with 95 % intervals, and accuracy against the cost of adapting.

    Raises:
        FewshotError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(12, 4.5), layout="constrained")
    left, right = canvas.subplots(1, 2)
    sections = [s for s in comparison.sections if len(s.groups) == 1]
    shots = sorted({section.shot for section in sections})
    if len(shots) > 1:
        _against_shots(left, comparison, sections)
    else:
        _bars(left, comparison, sections)
    _against_cost(right, comparison, sections)
    left.set_ylabel("accuracy (%)")
    right.set_ylabel("accuracy (%), mean")
    canvas.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    save_figure(canvas, path)


def _bars(axes: Any, comparison: Comparison, sections: list[Section]) -> None:
    width = 0.8 / len(comparison.names)
    for number, name in enumerate(comparison.names):
        figures = [section.accuracy[name] for section in sections]
        axes.bar(
            [i + (number + 0.5) * width - 0.4 for i in range(len(sections))],
            [100 * figure.mean for figure in figures],
            width,
            yerr=[_whisker(100 * figure.interval) for figure in figures],
            error_kw={"linewidth": 1},
            label=to_draw(name),
        )
    names = [to_draw(section.name) for section in sections]
    axes.set_xticks(range(len(sections)), names, rotation=30, ha="right")


def _against_shots(axes: Any, comparison: Comparison, sections: list[Section]) -> None:
    """Plot the mean over the groups of each number of shots, with its interval."""
    shots = sorted({section.shot for section in sections})
    by_shot = {shot: [s for s in sections if s.shot == shot] for shot in shots}
    for name in comparison.names:
        means, whiskers = [], []
        for same_shot in by_shot.values():
            figures = [section.accuracy[name] for section in same_shot]
            means.append(100 * fmean(f.mean for f in figures))
            squares = sum(_whisker(f.interval) ** 2 for f in figures)
            whiskers.append(100 * math.sqrt(squares) / len(figures))
        axes.errorbar(shots, means, whiskers, marker="o", capsize=3, label=to_draw(name))
    axes.set_xlabel("shots")
    axes.set_xticks(shots, [f"{shot:g}" for shot in shots])


def _against_cost(axes: Any, comparison: Comparison, sections: list[Section]) -> None:
    """Plot a point for each number of shots, the mean over its groups."""
    for number, name in enumerate(comparison.names):
        points = []
        for shot in sorted({section.shot for section in sections}):
            counted = [s for s in sections if s.shot == shot and s.costs[name].adapt_macs]
            if counted:
                macs = sum(s.costs[name].adapt_macs or 0 for s in counted) / len(counted)
                points.append((macs / 1e9, 100 * fmean(s.accuracy[name].mean for s in counted)))
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=f"C{number}")
    axes.set_xscale("log")
    axes.set_xlabel("GMACs to adapt to a task")


def _whisker(interval: float) -> float:
    return 0.0 if math.isnan(interval) else interval
