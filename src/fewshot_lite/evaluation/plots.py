"""Figures of a comparison: accuracy by data set or by shots, and accuracy against its cost."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean
from typing import Any

from fewshot_lite.core.figures import require_matplotlib, save_figure, to_draw
from fewshot_lite.evaluation.results import Comparison, Section


def write_plot(comparison: Comparison, path: Path) -> None:
    """Two panels: accuracy with 95 % intervals, and accuracy against the cost of adapting.

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
            yerr=[_bar(100 * figure.interval) for figure in figures],
            error_kw={"linewidth": 1},
            label=to_draw(name),
        )
    names = [to_draw(section.name) for section in sections]
    axes.set_xticks(range(len(sections)), names, rotation=30, ha="right")


def _against_shots(axes: Any, comparison: Comparison, sections: list[Section]) -> None:
    """Mean over the groups of each number of shots; whiskers where that is one group alone."""
    shots = sorted({section.shot for section in sections})
    by_shot = {shot: [s for s in sections if s.shot == shot] for shot in shots}
    for name in comparison.names:
        means, whiskers = [], []
        for found in by_shot.values():
            figures = [section.accuracy[name] for section in found]
            means.append(100 * fmean(f.mean for f in figures))
            squares = sum(_bar(f.interval) ** 2 for f in figures)
            whiskers.append(100 * math.sqrt(squares) / len(figures))
        axes.errorbar(shots, means, whiskers, marker="o", capsize=3, label=to_draw(name))
    axes.set_xlabel("shots")
    axes.set_xticks(shots, [f"{shot:g}" for shot in shots])


def _against_cost(axes: Any, comparison: Comparison, sections: list[Section]) -> None:
    """A point for each number of shots, the mean over its groups."""
    for number, name in enumerate(comparison.names):
        points = []
        for shot in sorted({section.shot for section in sections}):
            found = [s for s in sections if s.shot == shot and s.costs[name].adapt_macs]
            if found:
                macs = sum(s.costs[name].adapt_macs or 0 for s in found) / len(found)
                points.append((macs / 1e9, 100 * fmean(s.accuracy[name].mean for s in found)))
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=f"C{number}")
    axes.set_xscale("log")
    axes.set_xlabel("GMACs to adapt to a task")


def _bar(interval: float) -> float:
    return 0.0 if math.isnan(interval) else interval
