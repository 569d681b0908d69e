"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

#: Exit code of a program ended by Ctrl-C.
INTERRUPTED = 130

PhotoFolder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER", help="A folder, or a ZIP archive, with one folder of photos per class."
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE.csv",
        help="A table of the photos in FOLDER, instead of class folders: rows of file,label, or of "
        "file,label,x,y,w,h with a box around the thing.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an output that exists.")]
Device = Annotated[
    str,
    typer.Option(help="The device to compute on: auto, cpu, cuda, cuda:1 or mps.", metavar="NAME"),
]


def _limit_pixels(context: typer.Context, value: int | None) -> int | None:
    if value is not None:
        from fewshot_lite.images.opening import pixel_limit

        context.with_resource(pixel_limit(value))  # as long as the command runs
    return value


#: Does its work by being there: the command need not look at it.
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        metavar="N",
        callback=_limit_pixels,
        help="Refuse images with more pixels than this.",
        show_default="250 million",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Threads that decode photos, beside the network.",
        show_default="one a core and two more",
    ),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(help="Precision of the networks; auto is bfloat16 where that is faster."),
]
