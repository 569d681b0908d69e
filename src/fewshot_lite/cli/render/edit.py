"""The output of `add`, `remove` and `rename`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fewshot_lite.cli.render.terminal import (
    MOST_ROWS,
    command,
    err,
    escape,
    out,
    print_skipped,
    print_table,
)
from fewshot_lite.personal.editing import film_share, worth_readapting

if TYPE_CHECKING:
    from pathlib import Path

    from fewshot_lite.personal.editing import Edit

_MOST_NAMED = 20


def print_edit(edit: Edit, path: Path) -> None:
    """Print the table of classes after the edit, and the files that were left out."""
    table = Table("class", box=None, pad_edge=False)
    table.add_column("photos", justify="right")
    table.add_column("change", justify="right")
    notes = {name: f"{change:+d}" for name, change in edit.changes.items()}
    notes |= dict.fromkeys(edit.new, "new")
    notes |= {new: f"was {old}" for old, new in edit.renamed.items()}
    rows = list(edit.model.shots.items())
    if len(rows) > MOST_ROWS:  # changed classes first, so that their rows are shown
        rows.sort(key=lambda row: row[0] not in notes)
    for name, photos in rows[:MOST_ROWS]:
        table.add_row(escape(name), str(photos), escape(notes.get(name, "")))
    if len(rows) > MOST_ROWS:
        rest = sum(photos for _, photos in rows[MOST_ROWS:])
        table.add_row(f"… and {len(rows) - MOST_ROWS} more", str(rest), "")
    for name in _gone(edit):
        table.add_row(escape(name), "0", "gone")
    print_table(table)
    print_skipped(edit.skipped)
    for item in edit.duplicates[:_MOST_NAMED]:
        err.print(
            f"[yellow]Not added[/] {escape(item.path)}: the model has it already, as "
            f"{escape(item.photo)} of {escape(repr(item.label))}"
        )
    if len(edit.duplicates) > _MOST_NAMED:
        err.print(
            f"[yellow]Not added[/] {len(edit.duplicates) - _MOST_NAMED} more that the model has "
            "already (--json lists all)"
        )
    if worth_readapting(edit.model):
        err.print(
            f"[yellow]Adapting anew may pay:[/] FiLM is from {film_share(edit.model):.0%} of these "
            f"photos. Where all are at hand: {escape(command('adapt', 'FOLDER'))}"
        )
    total = len(edit.model.labels)
    classes = len(edit.model.class_names)
    out.print(f"{total} photos of {classes} classes: [bold]{escape(str(path))}[/]")


def edit_json(edit: Edit, path: Path) -> dict[str, Any]:
    """Return an edit as JSON-able values."""
    return {
        "model": path,
        "classes": edit.model.shots,
        "changes": edit.changes,
        "new": edit.new,
        "gone": _gone(edit),
        "renamed": edit.renamed,
        "skipped": [asdict(item) for item in edit.skipped],
        "duplicates": [
            {"path": item.path, "photo": item.photo, "class": item.label}
            for item in edit.duplicates
        ],
        "film_share": film_share(edit.model),
        "worth_readapting": worth_readapting(edit.model),
    }


def _gone(edit: Edit) -> list[str]:
    return [name for name in edit.changes if name not in edit.model.class_names]
