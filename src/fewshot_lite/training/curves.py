"""Curves from the log of meta-training, for plots (`--plot`) and TensorBoard."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.figures import check_figure, require_matplotlib, save_figure, to_draw
from fewshot_lite.core.files import READING, check_there, failing_as

#: The values of a "step" line that are plotted.
STEP_VALUES = ("loss", "accuracy", "gradient_norm", "waiting", "tasks_per_second")
#: Remedy for a file that is not a log.
_GIVE = "Give the log, .jsonl, that `meta-train` wrote beside its model."

#: Number of tasks done -> value.
Curve = dict[int, float]


def scalars(line: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Yield the points in a line of the log as ("train" or "validation", name, value)."""
    if not isinstance(line.get("task"), int):
        return
    if line.get("event") == "step":
        values, kind = {name: line.get(name) for name in STEP_VALUES}, "train"
    elif line.get("event") == "validation" and isinstance(line.get("accuracy"), dict):
        values, kind = line["accuracy"], "validation"
    else:
        return
    for name, value in values.items():
        if isinstance(value, int | float) and not abs(value) > sys.float_info.max:
            yield kind, str(name), float(value)


def read_curves(log: Path) -> dict[tuple[str, str], Curve]:
    """Read the curves from a log of `meta-train`, by kind and name as in `scalars`.

    Values of tasks that a resumed run repeated are replaced by the later ones.

    Raises:
        UsageError: the file does not exist, or is not such a log.
        FewshotError: it cannot be read.
    """
    check_there(log, remedy=_GIVE)
    try:
        with failing_as(log, READING):
            text = log.read_text("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{log}: not a log of meta-training. {_GIVE}") from None
    curves: dict[tuple[str, str], Curve] = {}
    for row in text.splitlines():
        try:
            line = json.loads(row)
        except (ValueError, RecursionError):  # the last line of a run that was killed
            continue
        if not isinstance(line, dict):
            continue
        if line.get("event") == "start" and isinstance(task := line.get("task"), int):
            curves = {
                key: {done: value for done, value in curve.items() if done <= task}
                for key, curve in curves.items()
            }
        for kind, name, value in scalars(line):
            curves.setdefault((kind, name), {})[line["task"]] = value
    if not any(kind == "train" for kind, _ in curves):
        raise UsageError(f"{log}: no step of a meta-training run in it. {_GIVE}")
    return curves


def plot_curves(log: Path, path: Path) -> None:
    """Plot a log of meta-training: loss, accuracy (also of validation) and gradient norm.

    Args:
        log: the log of a run, finished or not.
        path: the figure, .png, .svg or .pdf; it is overwritten.

    Raises:
        UsageError: `path` has another ending, or `log` is not such a log.
        FewshotError: matplotlib is not installed.
    """
    check_figure(path)
    require_matplotlib()
    curves = read_curves(log)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.5), layout="constrained")
    panels = figure.subplots(1, 3)
    labels = ("loss, running average", "accuracy (%)", "norm of a step's gradient")
    for axes, name, label in zip(
        panels, ("loss", "accuracy", "gradient_norm"), labels, strict=True
    ):
        axes.set(xlabel="tasks", ylabel=label)
        factor = 100 if name == "accuracy" else 1
        curve = curves.get(("train", name), {})
        values = [factor * value for value in curve.values()]
        axes.plot(list(curve), values, label="training, running average", linewidth=1)
        if name == "gradient_norm" and any(value > 0 for value in values):
            axes.set_yscale("log")
    validation = {name: curve for (kind, name), curve in curves.items() if kind == "validation"}
    if len(validation) == 2:  # a single data set, which equals the mean
        del validation["mean"]
    for name, curve in validation.items():
        values = [100 * value for value in curve.values()]
        width = 2.5 if name == "mean" else 1
        panels[1].plot(
            list(curve), values, "o-", ms=3, lw=width, label=to_draw(f"validation: {name}")
        )
    panels[1].legend(fontsize="small")
    save_figure(figure, path)
