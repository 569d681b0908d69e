"""The output of `lambda-search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from fewshot_lite.cli.render.evaluate import count, milliseconds, percent
from fewshot_lite.cli.render.terminal import err, escape, out, print_next, print_table
from fewshot_lite.evaluation.names import REFINE

if TYPE_CHECKING:
    from fewshot_lite.evaluation.lambda_search.measuring import Measured
    from fewshot_lite.evaluation.lambda_search.result import Search


def print_search(search: Search, stored: Path | None, storable: bool) -> None:
    """Print the front, the chosen and the full pattern, and where the choice was stored.

    Args:
        stored: the checkpoint that it was stored in, if any.
        storable: whether there is a checkpoint that could hold it.
    """
    full, chosen = search.full, search.chosen
    tasks = len(full.accuracies)
    steps = f"{search.inner_steps} inner step{'s' if search.inner_steps > 1 else ''}"
    out.print(
        f"[bold]Accuracy against time to adapt[/]: {search.way}-way {search.options.shots}-shot, "
        f"{steps}, {tasks} task{'s' if tasks > 1 else ''}"
    )
    how = "a greedy search" if search.greedy else "all"
    out.print(
        f"The front of {len(search.measured)} patterns ({how}); digits: "
        f"{escape(', '.join(search.layers))}"
    )
    table = Table("pattern", box=None, pad_edge=False)
    for title in ("accuracy", "difference", "ms to adapt", "times as fast", "MACs to adapt"):
        table.add_column(title, justify="right")
    table.add_column("")
    shown = {one.pattern: one for one in (*search.front, chosen, full)}
    for one in sorted(shown.values(), key=lambda m: m.ratio):
        table.add_row(*_cells(one, search))
    print_table(table)
    drop = 100 * search.options.max_drop
    out.print(
        f"Chosen: [bold]{chosen.pattern}[/], the fastest within {drop:g} "
        f"point{'s' if drop != 1 else ''} of the full one: {1 / chosen.ratio:.1f} times "
        f"as fast, accuracy {percent(chosen.minus(full), sign=True)}"
    )
    if stored is not None:
        out.print(f"Stored: [bold]{escape(str(stored))}[/]")
        refine = ("--refine", "on") if search.model.partition(":")[0] == REFINE else ()
        print_next("adapt", "./my_objects", "--base", stored, *refine)
    elif storable and search.finished:
        err.print("Nothing is stored: give --output FILE for that.")


def _cells(one: Measured, search: Search) -> list[str]:
    marks = [
        name
        for name, other in (("chosen", search.chosen), ("full", search.full))
        if one.pattern == other.pattern
    ]
    return [
        one.pattern,
        percent(one.accuracy),
        "" if one.pattern == search.full.pattern else percent(one.minus(search.full), sign=True),
        milliseconds(one.ms),
        f"{1 / one.ratio:.2f}",
        count(one.macs),
        ", ".join(marks),
    ]
