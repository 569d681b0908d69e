"""How meta-training went: its log as curves, plotted (`--plot`) or followed in TensorBoard."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.figures import check_figure, require_matplotlib, save_figure, to_draw
from fewshot_lite.core.files import READING, failing_as

#: The values of a "step" line that are curves.
STEP_VALUES = ("loss", "accuracy", "gradient_norm", "waiting", "tasks_per_second")
#: What to do about a file that is none.
_GIVE = "Give the log, .jsonl, that `meta-train` wrote beside its model."

#: Values by the number of tasks done.
Curve = dict[int, float]


def scalars(line: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """The points that a line of the log adds to curves: "train" or "validation", name and value."""
    if not isinstance(line.get("task"), int):
        return
    if line.get("event") == "step":
        found, kind = {name: line.get(name) for name in STEP_VALUES}, "train"
    elif line.get("event") == "validation" and isinstance(line.get("accuracy"), dict):
        found, kind = line["accuracy"], "validation"
    else:
        return
    for name, value in found.items():
        if isinstance(value, int | float) and not abs(value) > sys.float_info.max:
            yield kind, str(name), float(value)


def read_curves(log: Path) -> dict[tuple[str, str], Curve]:
    """The curves of a log of `meta-train` by kind and name, see `scalars`.

    Of tasks that a resumed run did again the last count.

    Raises:
        UsageError: no such file, or no such log.
        FewshotError: it cannot be read.
    """
    if not log.exists():
        raise UsageError(f"{log}: no such file. {_GIVE}")
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
    """Plot a log of meta-training: loss, accuracy (also of validation) and the gradient's norm.

    Args:
        log: what a run wrote beside its output, finished or not.
        path: the figure, .png, .svg or .pdf; it is overwritten.

    Raises:
        UsageError: another ending, or no such log.
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
    if len(validation) == 2:  # the mean says the same as the only data set
        del validation["mean"]
    for name, curve in validation.items():
        values = [100 * value for value in curve.values()]
        width = 2.5 if name == "mean" else 1
        panels[1].plot(
            list(curve), values, "o-", ms=3, lw=width, label=to_draw(f"validation: {name}")
        )
    panels[1].legend(fontsize="small")
    save_figure(figure, path)
