"""`fewshot-lite classify`: parsing and rendering."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fewshot_lite.cli.options import (
    Device,
    Force,
    Frames,
    Json,
    MaxPixels,
    Workers,
    argument,
    option,
)
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import DEFAULT_PERSONAL
from fewshot_lite.images.folders import Skipped
from fewshot_lite.images.regions import Box, Region, as_box
from fewshot_lite.images.videos import FRAMES, as_seconds, check_frames
from fewshot_lite.personal.prediction import check_reject

if TYPE_CHECKING:
    from io import BufferedIOBase

    from fewshot_lite.personal.bulk import Outputs, Tally
    from fewshot_lite.personal.classifier import PhotoClassifier
    from fewshot_lite.personal.prediction import Prediction

#: The argument that stands for paths from standard input.
STDIN = Path("-")

_FILES = "Files and folders"
_REJECT = 0.05


def classify(
    paths: Annotated[
        list[Path],
        argument(
            "Photos, videos, or folders. With - paths are read from stdin, one a line.",
            metavar="PATH",
        ),
    ],
    model: Annotated[
        Path,
        option(
            "The personal model that `adapt` wrote, or its export.", "--model", "-m", metavar="FILE"
        ),
    ] = DEFAULT_PERSONAL,
    top: Annotated[int, option("The number of class names in an answer.", min=1, metavar="N")] = 3,
    reject: Annotated[
        float | None,
        option(
            "The accepted share of your own photos that are called unknown; a higher one "
            "rejects more photos of other things.",
            metavar="SHARE",
            shown=str(_REJECT),
        ),
    ] = None,
    no_reject: Annotated[
        bool, option("Name every photo, however unlike yours it is.", "--no-reject")
    ] = False,
    careful: Annotated[
        bool, option("Look at each photo three times (mirrored, from nearer): slower.", "--careful")
    ] = False,
    box: Annotated[
        str | None,
        option(
            "Look at this part of each photo alone: left, top, width and height in pixels.",
            metavar="X,Y,W,H",
        ),
    ] = None,
    frames: Frames = None,
    every: Annotated[
        str | None,
        option("Also answer for each moment of a video, so far apart, e.g. 0.5s.", metavar="TIME"),
    ] = None,
    strict: Annotated[
        bool, option("Fail if a folder holds a file that is no photo.", "--strict")
    ] = False,
    max_pixels: MaxPixels = None,
    workers: Workers = None,
    device: Device = "auto",
    json: Json = False,
    jsonl: Annotated[
        Path | None, option("Write one JSON object per line.", metavar="FILE|-", panel=_FILES)
    ] = None,
    csv: Annotated[
        Path | None, option("Write one row per photo.", metavar="FILE|-", panel=_FILES)
    ] = None,
    force: Force = False,
    sort_into: Annotated[
        Path | None,
        option(
            "Copy each photo into the folder of its class in DIR. Nothing is moved or overwritten.",
            metavar="DIR",
            panel=_FILES,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        option(
            "Write an HTML page that shows the surest and the least sure answers, and why.",
            metavar="FILE.html",
            panel=_FILES,
        ),
    ] = None,
    link: Annotated[
        bool,
        option("With --sort-into, make symbolic links instead of copies.", "--link", panel=_FILES),
    ] = False,
    resort: Annotated[
        bool,
        option(
            "With --sort-into, move copies of earlier runs to the class they are of now.",
            "--resort",
            panel=_FILES,
        ),
    ] = False,
    watch: Annotated[
        bool,
        option(
            "Wait for photos that arrive in the folders, until Ctrl-C.", "--watch", panel=_FILES
        ),
    ] = False,
    null: Annotated[
        bool,
        option(
            "Paths on stdin are separated by NUL, as find -print0 writes them.",
            "--null",
            "-0",
            panel=_FILES,
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
    from fewshot_lite.personal.bulk import Outputs, check_watched
    from fewshot_lite.personal.bulk.writers import STDOUT

    if no_reject and reject is not None:
        raise UsageError("--reject and --no-reject: give one of them.")
    reject_share = _REJECT if reject is None else reject
    check_reject(reject_share)
    if box is not None and (watch or report is not None):
        raise UsageError("--box: not with --watch or --report, which look at whole photos.")
    interval = None if every is None else as_seconds(every)
    frame_count = FRAMES if frames is None else frames
    check_frames(frame_count)
    crop = None if box is None else as_box(box.split(","), "--box")
    listed = _without_stdin(paths, watch=watch, null=null)
    on_stdout = STDOUT if json else None
    outputs = Outputs(csv, jsonl, on_stdout, sort_into, link, resort, force, report, model)
    outputs.check(listed, model)
    if watch:
        check_watched(listed)
    from fewshot_lite.cli.render.classify import print_tally
    from fewshot_lite.cli.render.terminal import print_note
    from fewshot_lite.images.bit_depths import in_words, recorded_whites
    from fewshot_lite.personal.loading import open_personal

    personal = open_personal(model, device=device)
    personal.careful, personal.workers = careful, workers
    options = {
        "top": top,
        "reject": None if no_reject else reject_share,
        "frames": frame_count,
        "every": interval,
    }
    if reject and math.isinf(personal.threshold(reject)):
        print_note(f"--reject {reject:g}: names all, as no class of {model} has two photos.")
    if watch:
        tally = _watch(personal, listed, outputs, options)
    else:
        tally = _classify_now(personal, paths, outputs, options, box=crop, null=null)
    if note := in_words(personal.whites, recorded_whites(personal.provenance)):
        print_note(note)
    print_tally(tally, outputs)
    if tally.failed or (strict and tally.skipped):
        raise typer.Exit(1)


def _watch(
    personal: PhotoClassifier, folders: list[Path], outputs: Outputs, options: dict[str, Any]
) -> Tally:
    from fewshot_lite.cli.render.classify import show
    from fewshot_lite.core.stopping import StopRequest
    from fewshot_lite.personal.bulk import watch_folders

    with StopRequest() as stop, show(outputs, live=True) as show_one:
        return watch_folders(
            personal,
            folders,
            outputs,
            on_prediction=show_one,
            stopped=lambda: bool(stop),
            **options,
        )


def _classify_now(
    personal: PhotoClassifier,
    paths: list[Path],
    outputs: Outputs,
    options: dict[str, Any],
    *,
    box: Box | None,
    null: bool,
) -> Tally:
    """Classify the files that are there now. A problem is an error only if there is one file."""
    from fewshot_lite.cli.render.classify import has_bar, show
    from fewshot_lite.personal.bulk import classify_files

    files = _find_files(paths, outputs.paths, null=null)
    first_two = list(islice(files, 2))
    single = len(first_two) == 1 and not (outputs.files or outputs.on_stdout)
    total = None
    if STDIN not in paths and has_bar(outputs):
        total = sum(1 for _ in _find_files(paths, outputs.paths, null=False))
    photos: Iterable[Path | Region | Skipped] = chain(first_two, files)
    if box is not None:
        photos = (p if isinstance(p, Skipped) else Region(p, box) for p in photos)
    with show(outputs, live=False, total=total) as show_one:

        def on_prediction(prediction: Prediction, tally: Tally) -> None:
            if single and prediction.problem is not None:
                raise FewshotError(f"{prediction.path}: {prediction.problem}.")
            show_one(prediction, tally)

        return classify_files(personal, photos, outputs, on_prediction=on_prediction, **options)


def _without_stdin(paths: list[Path], *, watch: bool, null: bool) -> list[Path]:
    """Return the paths of the command line without `STDIN`, whose use is checked."""
    from_stdin = paths.count(STDIN)
    if from_stdin > 1:
        raise UsageError("-: given twice, but stdin can be read once.")
    if null and not from_stdin:
        raise UsageError("--null: for paths from stdin alone. Add - to read them.")
    if watch and from_stdin:
        raise UsageError("--watch: for folders, not for paths from stdin.")
    return [path for path in paths if path != STDIN]


def _find_files(
    paths: list[Path], leave_out: list[Path], *, null: bool
) -> Iterator[Path | Skipped]:
    """Yield the photos under the given paths, with those from stdin in the place of `STDIN`."""
    from fewshot_lite.personal.bulk import find_photos, read_paths

    for path in paths:
        if path != STDIN:
            yield from find_photos([path], leave_out=leave_out)
        elif sys.stdin is None:
            raise UsageError("-: there is no stdin to read paths from.")
        else:
            stream = cast("BufferedIOBase", sys.stdin.buffer)
            yield from find_photos(read_paths(stream, null=null), leave_out=leave_out)
