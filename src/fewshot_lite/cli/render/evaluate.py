"""The output of `evaluate`: accuracies, paired differences, costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from fewshot_lite.cli.render import terminal as render
from fewshot_lite.evaluation.cost import Cost
from fewshot_lite.evaluation.results import Comparison, Figure, Section
from fewshot_lite.published.orbit.submission import OrbitTable

#: The most groups of tasks that are shown one by one; means over groups are always shown.
_MOST_GROUPS = 30

#: More groups than these are the rows of a table, not its columns.
_MOST_COLUMNS = 4

#: Names of rows that are longer than this are broken on narrow terminals.
_WIDEST_NAME = 34

#: Returns the cell of a row and a column, as Rich's markup.
_Cells = Callable[[str, str], str]


def print_comparison(comparison: Comparison) -> None:
    """Print all tables to stdout, notes to stderr."""
    for note in comparison.notes:
        render.err.print(f"[yellow]Note[/] {render.escape(note)}")
    if not comparison.sections:
        return
    best = {s.name: _best(s) for s in comparison.sections}

    def accuracy(section: Section, name: str) -> str:
        text = percent(section.accuracy[name])
        return f"[bold]{text}[/]" if name == best[section.name] else text

    _print_sections(f"Accuracy in % ± 95 % interval ({_tasks(comparison)})", comparison, accuracy)
    if len(comparison.names) > 1:
        reference = comparison.names[0]

        def difference(section: Section, name: str) -> str:
            figure = section.difference(name, reference)
            return "" if figure is None else percent(figure, sign=True)

        title = f"Difference to {render.escape(reference)}, task by task"
        _print_sections(title, comparison, difference)
    _print_sections("Expected calibration error in %", comparison, _calibration)
    _print_costs(comparison)


def print_orbit(table: OrbitTable) -> None:
    """Print ORBIT's metrics: over videos, as published, and over users."""
    for metric in next(iter(table.values()), {}):

        def cell(name: str, column: str, metric: str = metric) -> str:
            return percent(getattr(table[name][metric], column.replace(" ", "_")))

        title = f"{metric.replace('_', ' ').capitalize()} in %"
        _print_table(title, list(table), ["over videos", "over users"], cell)


def _best(section: Section) -> str:
    means = {n: f.mean for n, f in section.accuracy.items() if not math.isnan(f.mean)}
    return max(means, key=lambda name: means[name], default="")


def _tasks(comparison: Comparison) -> str:
    counts = {s.tasks for s in comparison.sections if len(s.groups) == 1}
    if len(counts) == 1:
        (count,) = counts
        return f"{count} task{'s' if count > 1 else ''} each"
    return f"{min(counts)} to {max(counts)} tasks each"


def _print_sections(
    title: str, comparison: Comparison, cell: Callable[[Section, str], str]
) -> None:
    """Print a cell for each section and model: models are the rows if that fits the terminal."""
    single = [s.name for s in comparison.sections if len(s.groups) == 1]
    hidden = set(single[_MOST_GROUPS:])
    shown = {s.name: s for s in comparison.sections if s.name not in hidden}

    def by_section(section: str, model: str) -> str:
        return cell(shown[section], model)

    def by_model(model: str, section: str) -> str:
        return cell(shown[section], model)

    names = comparison.names
    if len(shown) <= _MOST_COLUMNS and _fits(names, list(shown), by_model):
        _print_table(title, names, list(shown), by_model)
    elif _fits(list(shown), names, by_section):
        _print_table(title, list(shown), names, by_section)
    else:
        for section in shown:
            _print_table(title, names, [section], by_model)
    if hidden:
        render.out.print(f"… and {len(hidden)} more; --csv and --json have all of them.\n")


def _widths(rows: Sequence[str], columns: Sequence[str], cell: _Cells) -> list[int]:
    """Return the least widths of the names of rows and of each column, breaking only at spaces."""
    widths = [min(max(map(len, rows)), _WIDEST_NAME)]
    for column in columns:
        cells = [len(Text.from_markup(cell(row, column)).plain) for row in rows]
        widths.append(max(*cells, *map(len, column.split()), 1))
    return widths


def _fits(rows: Sequence[str], columns: Sequence[str], cell: _Cells) -> bool:
    """Return whether a table fits the terminal if only headings are broken, between words."""
    return sum(_widths(rows, columns, cell)) + 2 * len(columns) <= render.out.width


def _print_table(
    title: str, rows: Sequence[str], columns: Sequence[str], cell: _Cells, *, last: bool = False
) -> None:
    render.out.print(f"[bold]{title}[/]")
    table = Table(box=None, pad_edge=False)
    least = _widths(rows, columns, cell)
    unbroken = [max(map(len, rows)), *map(len, columns)]
    whole = [max(pair) for pair in zip(least, unbroken, strict=True)]
    fits_whole = sum(whole) + 2 * len(columns) <= render.out.width
    widths = whole if fits_whole else least
    table.add_column("", overflow="fold", width=widths[0])
    for column, width in zip(columns, widths[1:], strict=True):
        table.add_column(render.escape(column), justify="right", width=width)
    for row in rows:
        table.add_row(render.escape(row), *(cell(row, column) for column in columns))
    render.out.print(table)
    if not last:
        render.out.print()


def _calibration(section: Section, name: str) -> str:
    value = section.calibration[name]
    return "" if math.isnan(value) else f"{100 * value:.1f}"


def _print_costs(comparison: Comparison) -> None:
    costs, models = comparison.costs, {model["name"]: model for model in comparison.models}
    times: dict[str, Callable[[Cost], str]] = {
        "ms to adapt": lambda cost: milliseconds(cost.adapt_ms),
        "ms a query": lambda cost: milliseconds(cost.query_ms),
        "bare backbone": lambda cost: milliseconds(cost.bare_ms),
        "MACs to adapt": lambda cost: count(cost.adapt_macs),
        "MACs a query": lambda cost: count(cost.query_macs),
        "peak memory": lambda cost: _memory(cost.peak_memory),
    }
    facts: dict[str, Callable[[str], str]] = {
        "parameters": lambda name: count(models[name]["parameters"]),
        "pixels": lambda name: str(models[name]["image_size"]),
        "backbone": lambda name: render.escape(models[name]["backbone"]),
    }
    title = "Cost, mean over groups of tasks (decoding left out)"
    _print_table(title, comparison.names, list(times), lambda row, c: times[c](costs[row]))
    _print_table("Models", comparison.names, list(facts), lambda row, c: facts[c](row), last=True)


def percent(figure: Figure, *, sign: bool = False) -> str:
    """Return a figure in %, with its interval if it has one; "" for NaN."""
    if math.isnan(figure.mean):
        return ""
    mean = f"{round(100 * figure.mean, 1) + 0:+.1f}" if sign else f"{100 * figure.mean:.1f}"
    if math.isnan(figure.interval):
        return mean
    half = f"{100 * figure.interval:.1f}"
    return f"{mean} ± {'<0.1' if half == '0.0' else half}"


def milliseconds(value: float | None) -> str:
    """Return a time with three digits; "" for None."""
    if value is None:
        return ""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def count(number: float | None) -> str:
    """Return a large number with a unit: 1.5 G; "" for None."""
    if number is None:
        return ""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


def _memory(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.0f} MiB"
