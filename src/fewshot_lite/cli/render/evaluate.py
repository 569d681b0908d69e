"""A comparison as people see it: accuracies, paired differences, costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich.table import Table

from fewshot_lite.cli.render import terminal as render
from fewshot_lite.evaluation.orbit import OrbitTable
from fewshot_lite.evaluation.results import Comparison, Cost, Figure, Section

#: More groups than these are the rows of a table, not its columns.
_MOST_COLUMNS = 4


def print_comparison(comparison: Comparison) -> None:
    """All tables on stdout, notes on stderr."""
    for note in comparison.notes:
        render.err.print(f"[yellow]Note[/] {render.escape(note)}")
    if not comparison.sections:
        return
    best = {s.name: _best(s) for s in comparison.sections}

    def accuracy(section: Section, name: str) -> str:
        text = percent(section.accuracy[name])
        return f"[bold]{text}[/]" if name == best[section.name] else text

    _print(f"Accuracy in % ± 95 % interval ({_tasks(comparison)})", comparison, accuracy)
    if len(comparison.names) > 1:
        reference = comparison.names[0]

        def difference(section: Section, name: str) -> str:
            figure = section.difference(name, reference)
            return "" if figure is None else percent(figure, sign=True)

        title = f"Difference to {render.escape(reference)}, task by task"
        _print(title, comparison, difference)
    _print("Expected calibration error in %", comparison, _calibration)
    _print_costs(comparison)


def print_orbit(table: OrbitTable) -> None:
    """ORBIT's metrics: over videos, as published, and over users."""
    for metric in next(iter(table.values()), {}):
        render.out.print(f"[bold]{metric.replace('_', ' ').capitalize()}[/] in %")
        rows = Table("", box=None, pad_edge=False)
        _columns(rows, ["over videos", "over users"])
        for name, figures in table.items():
            found = figures[metric]
            rows.add_row(
                render.escape(name),
                *(
                    percent(Figure(f.mean, f.half_width))
                    for f in (found.over_videos, found.over_users)
                ),
            )
        render.out.print(rows)
        render.out.print()


def _best(section: Section) -> str:
    means = {n: f.mean for n, f in section.accuracy.items() if not math.isnan(f.mean)}
    return max(means, key=lambda name: means[name], default="")


def _tasks(comparison: Comparison) -> str:
    counts = {n for s in comparison.sections if len(s.groups) == 1 for n in s.tasks.values()}
    if len(counts) == 1:
        (count,) = counts
        return f"{count} task{'s' if count > 1 else ''} each"
    return f"{min(counts)} to {max(counts)} tasks each"


def _print(title: str, comparison: Comparison, cell: Callable[[Section, str], str]) -> None:
    sections, names = comparison.sections, comparison.names
    render.out.print(f"[bold]{title}[/]")
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    if len(sections) <= _MOST_COLUMNS:
        _columns(table, [section.name for section in sections])
        for name in names:
            table.add_row(render.escape(name), *(cell(section, name) for section in sections))
    else:
        _columns(table, names)
        for section in sections:
            table.add_row(render.escape(section.name), *(cell(section, name) for name in names))
    render.out.print(table)
    render.out.print()


def _columns(table: Table, names: Sequence[str]) -> None:
    for name in names:
        table.add_column(render.escape(name), justify="right")


def _calibration(section: Section, name: str) -> str:
    value = section.calibration[name]
    return "" if math.isnan(value) else f"{100 * value:.1f}"


def _print_costs(comparison: Comparison) -> None:
    render.out.print("[bold]Cost[/], mean over the columns above (decoding left out)")
    table = Table("", box=None, pad_edge=False)
    _columns(
        table,
        ["ms to adapt", "ms a query", "bare backbone", "MACs to adapt", "MACs a query"],
    )
    _columns(table, ["parameters", "peak memory", "pixels", "backbone"])
    for model in comparison.models:
        table.add_row(
            render.escape(model["name"]),
            *_cost_cells(comparison.costs[model["name"]]),
            count(model["parameters"]),
            _memory(comparison.costs[model["name"]].peak_memory),
            str(model["image_size"]),
            render.escape(model["backbone"]),
        )
    render.out.print(table)


def _cost_cells(cost: Cost) -> list[str]:
    times = [cost.adapt_ms, cost.query_ms, cost.bare_ms]
    return [
        *(
            "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"
            for value in times
        ),
        count(cost.adapt_macs),
        count(cost.query_macs),
    ]


def percent(figure: Figure, *, sign: bool = False) -> str:
    """A figure in %, with its interval if it has one; nothing if it is none."""
    if math.isnan(figure.mean):
        return ""
    mean = f"{round(100 * figure.mean, 1) + 0:+.1f}" if sign else f"{100 * figure.mean:.1f}"
    return mean if math.isnan(figure.interval) else f"{mean} ± {100 * figure.interval:.1f}"


def count(number: float | None) -> str:
    """A large number with a unit; nothing for None."""
    if number is None:
        return ""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


def _memory(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.0f} MiB"
