"""A comparison as CSV: a row for each model and each line of the tables."""

from __future__ import annotations

import csv
from pathlib import Path

from fewshot_lite.core.files import atomic_path
from fewshot_lite.core.text import csv_cell
from fewshot_lite.evaluation.results import Comparison

_COSTS = ("adapt_ms", "query_ms", "adapt_macs", "query_macs")
_COLUMNS = (
    *("section", "model", "tasks", "accuracy", "interval", "difference", "difference_interval"),
    *("calibration_error", *_COSTS, "parameters", "peak_memory"),
)


def write_csv(comparison: Comparison, path: Path, *, force: bool = False) -> None:
    """Write the figures; accuracies in 0..1, differences against the first model, memory in bytes.

    What was not measured, or has no interval, is left empty.

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
                    section.tasks[name],
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
