"""`fewshot-lite data`: check a folder of images before training on it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fewshot_lite.cli.commands import Command, Group
from fewshot_lite.cli.options import Json, argument
from fewshot_lite.core.errors import UsageError

app = typer.Typer(cls=Group, no_args_is_help=True, add_completion=False, help="Look at data sets.")


@app.callback()
def _data() -> None:
    """Look at data sets."""


@app.command(cls=Command, epilog="Example: fewshot-lite data check ./vtab")
def check(
    path: Annotated[
        str,
        argument(
            "Class folders, a folder of several such data sets, or the folder of "
            "Meta-Dataset, VTAB-v2 or ORBIT.",
            metavar="PATH",
        ),
    ],
    json: Json = False,
) -> None:
    """Recognise the format, count classes and images, name what is missing or damaged.

    The exit code is 1 if there are problems.
    """
    if not path:  # Path("") would be the current folder
        raise UsageError("PATH is an empty word. Give a folder, or . for this one.")
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.cli.render.data import print_summary
    from fewshot_lite.published.check import check_data

    with render.err.status("Looking…"):
        summary = check_data(Path(path))
    if json:
        render.print_json(asdict(summary))
    else:
        print_summary(summary)
    if summary.problems:
        raise typer.Exit(1)
