"""`fewshot-lite classify`: parsing and rendering."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fewshot_lite.cli.options import Device, Force, Frames, Json, MaxPixels, Workers
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import DEFAULT_PERSONAL
from fewshot_lite.images.folders import Skipped
from fewshot_lite.images.regions import Box, Region, as_box
from fewshot_lite.images.videos import FRAMES, as_seconds, check_frames
from fewshot_lite.personal.prediction import check_reject

if TYPE_CHECKING:
    from io import BufferedIOBase

    from fewshot_lite.personal.bulk import Tally
    from fewshot_lite.personal.prediction import Prediction

#: As an argument: paths come from standard input.
STDIN = Path("-")

_FILES = "Files and folders"
_REJECT = 0.05


def classify(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="Photos, videos, or folders. With - paths are read from stdin, one a line.",
        ),
    ],
    model: Annotated[
        Path,
        typer.Option("--model", "-m", help="The personal model that `adapt` wrote, or its export."),
    ] = DEFAULT_PERSONAL,
    top: Annotated[int, typer.Option(min=1, help="The number of class names in an answer.")] = 3,
    reject: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="The accepted share of your own photos that are called unknown; a higher one "
            "rejects more photos of other things.",
            show_default=str(_REJECT),
        ),
    ] = None,
    no_reject: Annotated[
        bool, typer.Option("--no-reject", help="Name every photo, however unlike yours it is.")
    ] = False,
    careful: Annotated[
        bool,
        typer.Option(
            "--careful", help="Look at each photo three times (mirrored, from nearer): slower."
        ),
    ] = False,
    box: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,W,H",
            help="Look at this part of each photo alone: left, top, width and height in pixels.",
        ),
    ] = None,
    frames: Frames = None,
    every: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Also answer for each moment of a video, so far apart, e.g. 0.5s.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a folder holds a file that is no photo.")
    ] = False,
    max_pixels: MaxPixels = None,
    workers: Workers = None,
    device: Device = "auto",
    json: Json = False,
    jsonl: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|-", help="Write one JSON object per line.", rich_help_panel=_FILES
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE|-", help="Write one row per photo.", rich_help_panel=_FILES),
    ] = None,
    force: Force = False,
    sort_into: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Copy each photo into DIR/<its class>. Nothing is moved or overwritten.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Write an HTML page that shows the surest and the least sure answers, and why.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    link: Annotated[
        bool,
        typer.Option(
            "--link",
            help="With --sort-into, make symbolic links instead of copies.",
            rich_help_panel=_FILES,
        ),
    ] = False,
    resort: Annotated[
        bool,
        typer.Option(
            "--resort",
            help="With --sort-into, move copies of earlier runs to the class they are of now.",
            rich_help_panel=_FILES,
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Wait for photos that arrive in the folders, until Ctrl-C.",
            rich_help_panel=_FILES,
        ),
    ] = False,
    null: Annotated[
        bool,
        typer.Option(
            "--null",
            "-0",
            help="Paths on stdin are separated by NUL, as find -print0 writes them.",
            rich_help_panel=_FILES,
        ),
    ] = False,
) -> None:
    """Say which of your classes photos and videos show.

    A video has one answer, from frames drawn evenly over its time; --every adds a time line.

    Answers are printed in the order of the files, unless --json, --jsonl or --csv ask for another
    form. These can be combined, but only one of them can go to stdout.

    An output file appears when it is complete. With --watch it grows row by row, and a report is
    written at the end.

    The exit code is 1 if a photo could not be named, and with --strict if a file in a folder is
    no photo.
    """
    from fewshot_lite.personal.bulk import Outputs, check_watched, classify_files, watch_folders
    from fewshot_lite.personal.bulk.writers import STDOUT

    if no_reject and reject is not None:
        raise UsageError("--reject and --no-reject: give one of them.")
    reject = _REJECT if reject is None else reject
    check_reject(reject)
    share = None if no_reject else reject
    if box is not None and (watch or report is not None):
        raise UsageError("--box: not with --watch or --report, which look at whole photos.")
    step = None if every is None else as_seconds(every)
    number = FRAMES if frames is None else frames
    check_frames(number)
    part = None if box is None else as_box(box.split(","), "--box")
    named = _named(paths, watch=watch, null=null)
    outputs = Outputs(
        csv, jsonl, STDOUT if json else None, sort_into, link, resort, force, report, model
    )
    outputs.check(named, model)
    if watch:
        check_watched(named)
    from fewshot_lite.cli.render import classify as render_classify
    from fewshot_lite.cli.render.terminal import print_note
    from fewshot_lite.images.bit_depths import in_words, recorded_whites
    from fewshot_lite.personal.loading import open_personal

    personal = open_personal(model, device=device, with_photos=report is not None)
    personal.careful, personal.workers = careful, workers
    if watch:
        from fewshot_lite.core.stopping import StopRequest

        with StopRequest() as stop, render_classify.show(outputs, live=True) as on_prediction:
            tally = watch_folders(
                personal,
                named,
                outputs,
                top=top,
                reject=share,
                frames=number,
                every=step,
                on_prediction=on_prediction,
                stopped=lambda: bool(stop),
            )
    else:
        found = _found(paths, outputs.paths, null=null)
        first = list(islice(found, 2))
        total = None
        if STDIN not in paths and render_classify.has_bar(outputs):
            total = sum(1 for _ in _found(paths, outputs.paths, null=False))
        with render_classify.show(outputs, live=False, total=total) as on_prediction:
            if len(first) == 1 and not (outputs.files or outputs.on_stdout):
                on_prediction = _failing(on_prediction)
            photos = chain(first, found)
            tally = classify_files(
                personal,
                photos if part is None else _parts(photos, part),
                outputs,
                top=top,
                reject=share,
                frames=number,
                every=step,
                on_prediction=on_prediction,
            )
    if note := in_words(personal.whites, recorded_whites(personal.provenance)):
        print_note(note)
    render_classify.print_tally(tally, outputs)
    if tally.failed or (strict and tally.skipped):
        raise typer.Exit(1)


def _named(paths: list[Path], *, watch: bool, null: bool) -> list[Path]:
    """The paths on the command line without that for stdin."""
    from_stdin = paths.count(STDIN)
    if from_stdin > 1:
        raise UsageError("-: given twice, but stdin can be read once.")
    if null and not from_stdin:
        raise UsageError("--null: for paths from stdin alone. Add - to read them.")
    if watch and from_stdin:
        raise UsageError("--watch: for folders, not for paths from stdin.")
    return [path for path in paths if path != STDIN]


def _found(paths: list[Path], leave_out: list[Path], *, null: bool) -> Iterator[Path | Skipped]:
    """Photos of the command line, with those of stdin where `STDIN` stands."""
    from fewshot_lite.personal.bulk import find_photos, read_paths

    for path in paths:
        if path != STDIN:
            yield from find_photos([path], leave_out=leave_out)
        elif sys.stdin is None:
            raise UsageError("-: there is no stdin to read paths from.")
        else:
            stream = cast("BufferedIOBase", sys.stdin.buffer)
            yield from find_photos(read_paths(stream, null=null), leave_out=leave_out)


def _parts(photos: Iterable[Path | Skipped], box: Box) -> Iterator[Region | Skipped]:
    """The same part of each photo."""
    for photo in photos:
        yield photo if isinstance(photo, Skipped) else Region(photo, box)


def _failing(
    on_prediction: Callable[[Prediction, Tally], None],
) -> Callable[[Prediction, Tally], None]:
    """For one file alone, whose problem is an error and not one of a list."""

    def fail(prediction: Prediction, tally: Tally) -> None:
        if prediction.problem is not None:
            raise FewshotError(f"{prediction.path}: {prediction.problem}.")
        on_prediction(prediction, tally)

    return fail
