"""The figure of a search: accuracy against the time to adapt."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from fewshot_lite.core.figures import require_matplotlib, save_figure
from fewshot_lite.evaluation.lambda_search.result import Search


def write_plot(search: Search, path: Path) -> None:
    """Every pattern as a point, the front as a line with its patterns' digits.

    Raises:
        FewshotError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(7, 4.5), layout="constrained")
    axes = canvas.subplots()
    draw(axes, search)
    save_figure(canvas, path)


def draw(axes: Any, search: Search) -> None:
    """The search on matplotlib's axes."""
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
