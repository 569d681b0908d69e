"""The output of `data check`."""

from __future__ import annotations

from rich.table import Table

from fewshot_lite.cli.render import terminal as render
from fewshot_lite.published.summary import DataSet, Summary


def print_summary(summary: Summary) -> None:
    """Print the table and the notes to stdout, problems to stderr."""
    root = render.escape(str(summary.root))
    render.out.print(f"{root}: [bold]{render.escape(summary.format)}[/]")
    if summary.data_sets:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("data set")
        table.add_column("classes", justify="right")
        table.add_column("images", justify="right")
        table.add_column("width x height")
        with_splits = any(row.splits for row in summary.data_sets)
        if with_splits:
            table.add_column("splits")
        for row in summary.data_sets[: render.MOST_ROWS]:
            cells = [render.escape(row.name), f"{row.classes:,}", f"{row.images:,}", _sizes(row)]
            if with_splits:
                cells.append(render.escape(", ".join(f"{n} {count:,}" for n, count in row.splits)))
            table.add_row(*cells)
        render.print_table(table)
        _print_more(len(summary.data_sets) - render.MOST_ROWS, "data sets")
    for note in summary.notes[: render.MOST_ROWS]:
        render.out.print(render.escape(note))
    _print_more(len(summary.notes) - render.MOST_ROWS, "notes")
    for problem in summary.problems:
        render.err.print(f"[bold red]Problem:[/] {render.escape(problem)}")


def _print_more(number: int, what: str) -> None:
    if number > 0:
        render.out.print(f"… and {number} more {what}; --json lists all.")


def _sizes(row: DataSet) -> str:
    if row.sizes is None:
        return "–"
    smallest, largest = (f"{width} x {height}" for width, height in row.sizes)
    return smallest if smallest == largest else f"{smallest} to {largest}"
