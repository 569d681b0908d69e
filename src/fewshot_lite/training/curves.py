"""How meta-training went: its log as curves, drawn (`--plot`) or followed (TensorBoard)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.figures import check_figure, require_matplotlib, save_figure

#: Of a "step" line: what are curves.
STEP_VALUES = ("loss", "accuracy", "gradient_norm", "waiting", "tasks_per_second")

Curve = tuple[list[int], list[float]]


@dataclass
class Curves:
    """Values by name, each against the number of tasks done."""

    steps: dict[str, Curve] = field(default_factory=dict)
    """See `STEP_VALUES`; loss and accuracy are running averages."""
    validation: dict[str, Curve] = field(default_factory=dict)
    """Accuracy by data set, and "mean"."""


def read_curves(log: Path) -> Curves:
    """The curves of a log of `meta-train`; of tasks done again by a resumed run, the last.

    Raises:
        UsageError: no such file, or no such log.
        FewshotError: it cannot be read.
    """
    points: dict[tuple[str, str], dict[int, float]] = {}
    for line in _lines(log):
        task = line.get("task")
        if not isinstance(task, int):
            continue
        if line.get("event") == "start":  # anew from here
            for curve in points.values():
                for later in [t for t in curve if t > task]:
                    del curve[later]
        for kind, name, value in scalars(line):
            points.setdefault((kind, name), {})[task] = value
    curves = Curves()
    for (kind, name), curve in points.items():
        into = curves.steps if kind == "step" else curves.validation
        into[name] = (list(curve), list(curve.values()))
    if not curves.steps:
        raise UsageError(f"{log}: no step of a meta-training run in it.")
    return curves


def scalars(line: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """What a line of the log adds to curves: its event, the curve's name and the value."""
    event = line.get("event")
    if event == "step":
        found = {name: line.get(name) for name in STEP_VALUES}
    elif event == "validation":
        found = line["accuracy"] if isinstance(line.get("accuracy"), dict) else {}
    else:
        return
    for name, value in found.items():
        if isinstance(value, int | float):
            yield event, str(name), float(value)


def _lines(log: Path) -> Iterator[dict[str, Any]]:
    try:
        text = log.read_text("utf-8")
    except FileNotFoundError:
        raise UsageError(f"{log}: no such file.") from None
    except OSError as error:
        raise FewshotError(f"{log}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise UsageError(f"{log}: not a log of meta-training.") from None
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):  # the last line of a run that was killed
            continue
        if isinstance(value, dict):
            yield value


def plot_curves(log: Path, path: Path) -> None:
    """Draw a log of meta-training: loss, accuracy (also of validation) and the gradient's norm.

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
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(12, 3.5), layout="constrained")
    loss, accuracy, gradient = canvas.subplots(1, 3)
    none: Curve = ([], [])
    loss.plot(*curves.steps.get("loss", none))
    loss.set_ylabel("loss, running average")
    tasks, shares = curves.steps.get("accuracy", none)
    accuracy.plot(tasks, [100 * share for share in shares], label="training, running average")
    for name, (tasks, shares) in curves.validation.items():
        alone = name == "mean" and len(curves.validation) == 2  # it says the same as the other
        if not alone:
            style = {"linewidth": 2.5} if name == "mean" else {"linewidth": 1}
            values = [100 * share for share in shares]
            accuracy.plot(tasks, values, "o-", markersize=3, label=f"validation: {name}", **style)
    accuracy.set_ylabel("accuracy (%)")
    accuracy.legend(fontsize="small")
    gradient.plot(*curves.steps.get("gradient_norm", none), linewidth=0.8)
    gradient.set_ylabel("norm of a step's gradient")
    if any(value > 0 for value in curves.steps.get("gradient_norm", none)[1]):
        gradient.set_yscale("log")
    for axes in (loss, accuracy, gradient):
        axes.set_xlabel("tasks")
    save_figure(canvas, path)
