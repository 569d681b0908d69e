"""Options shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def option(
    help: str, *names: str, panel: str | None = None, shown: str | bool = True, **more: Any
) -> Any:
    """Return an option of a command.

    Args:
        help: a sentence.
        names: its flags; by default one named after the parameter.
        panel: its heading in the help text.
        shown: the default as help shows it, where that is not the value.
    """
    if isinstance(shown, str):  # Typer would put it in parentheses
        help, shown = f"{help} [dim]\\[default: {shown}][/dim]", False
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=shown, **more)


def argument(help: str, *, shown: Any = True, **more: Any) -> Any:
    """Return an argument of a command; the parameters are those of `option`."""
    return typer.Argument(help=help, show_default=shown, **more)


def was_given(context: typer.Context, name: str) -> bool:
    """Return whether a parameter was given on the command line, be it with its default value."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


#: Exit code of a program ended by Ctrl-C.
INTERRUPTED = 130

PhotoFolder = Annotated[
    Path,
    argument(
        "A folder, or a ZIP archive, with one folder of photos and videos per class.",
        metavar="FOLDER",
    ),
]
Labels = Annotated[
    Path | None,
    option(
        "A table of the photos in FOLDER, instead of class folders: rows of file,label, or of "
        "file,label,x,y,w,h with a box around the thing.",
        "--labels",
        metavar="FILE.csv",
    ),
]
Frames = Annotated[
    int | None,
    option(
        "The frames to draw of each video, evenly over its time.",
        "--frames",
        metavar="N",
        shown="8",
    ),
]
Base = Annotated[str, option("The meta-trained model to adapt.", metavar="NAME|FILE")]


def json_flag(panel: str | None = None) -> Any:
    """Return the option `--json`."""
    return option("Print the result as JSON on stdout.", "--json", panel=panel)


def force_flag(panel: str | None = None) -> Any:
    """Return the option `--force`."""
    return option("Overwrite an output that exists.", "--force", panel=panel)


def device_option(panel: str | None = None) -> Any:
    """Return the option `--device`."""
    text = "The device to compute on: auto, cpu, cuda, cuda:1 or mps."
    return option(text, metavar="NAME", panel=panel)


Json = Annotated[bool, json_flag()]
Force = Annotated[bool, force_flag()]
Device = Annotated[str, device_option()]


def _limit_pixels(context: typer.Context, value: int | None) -> int | None:
    if value is not None:
        from fewshot_lite.images.opening import pixel_limit

        context.with_resource(pixel_limit(value))  # as long as the command runs
    return value


#: Its callback sets the limit: commands need not read the value.
MaxPixels = Annotated[
    int | None,
    option(
        "Refuse images with more pixels than this.",
        "--max-pixels",
        min=1,
        metavar="N",
        callback=_limit_pixels,
        shown="250 million",
    ),
]
Workers = Annotated[
    int | None,
    option(
        "Threads that decode photos, beside the network.",
        "--workers",
        min=1,
        metavar="N",
        shown="one a core and two more",
    ),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16"],
    option(
        "Precision of the networks: float32, bfloat16, or auto for bfloat16 where it is faster.",
        metavar="NAME",
    ),
]
