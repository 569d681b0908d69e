"""`fewshot-lite classify`: parsing and rendering."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewshot_lite.cli_options import Device, Json
from fewshot_lite.data.folders import walk_photos
from fewshot_lite.errors import FewshotError
from fewshot_lite.files import DEFAULT_PERSONAL

if TYPE_CHECKING:
    from fewshot_lite.personal import Prediction


def classify(
    paths: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    model: Annotated[
        Path, typer.Option("--model", "-m", help="The personal model; what `adapt` wrote.")
    ] = DEFAULT_PERSONAL,
    top: Annotated[int, typer.Option(min=1, help="How many class names to give.")] = 3,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Name what photos show."""
    from fewshot_lite import render
    from fewshot_lite.devices import pick_device
    from fewshot_lite.personal import PersonalModel

    personal = PersonalModel.load(model, device=str(pick_device(device)))
    found = list(_expand(paths))
    readable = (path for path, problem in found if problem is None)
    answers = personal.classify_stream(readable, top=top)
    show = _classify_as_json if json else _classify_as_text
    failed = show(found, answers)
    if failed:
        if not json:
            render.err.print(f"{failed} of {len(found)} files could not be classified.")
        raise typer.Exit(1)


def _classify_as_json(found: list[tuple[Path, str | None]], answers: Iterator[Prediction]) -> int:
    """Print all answers at the end, after a bar; return how many files failed."""
    from fewshot_lite import render

    predictions = []
    with render.counting_bar("Classifying") as progress:
        for done, prediction in enumerate(_predictions(found, answers), start=1):
            predictions.append(prediction)
            progress(done, len(found))
    render.print_json([render.prediction_json(prediction) for prediction in predictions])
    return sum(prediction.problem is not None for prediction in predictions)


def _classify_as_text(found: list[tuple[Path, str | None]], answers: Iterator[Prediction]) -> int:
    """Print each answer as it comes; return how many files failed."""
    from fewshot_lite import render

    failed = 0
    for prediction in _predictions(found, answers):
        if prediction.problem and len(found) == 1:
            raise FewshotError(f"{prediction.path}: {prediction.problem}.")
        render.print_prediction(prediction)
        failed += prediction.problem is not None
    return failed


def _predictions(
    found: list[tuple[Path, str | None]], answers: Iterator[Prediction]
) -> Iterator[Prediction]:
    """What is known of each file, in order: its problem, or the next answer."""
    from fewshot_lite.personal import Prediction

    for path, problem in found:
        yield Prediction(path, (), problem) if problem else next(answers)


def _expand(paths: list[Path]) -> Iterator[tuple[Path, str | None]]:
    """Photos as given, and those of folders; each with what keeps it from being read, if known."""
    for path in paths:
        if not path.is_dir():
            yield path, None
            continue
        inside = list(walk_photos(path))
        if not inside:
            yield path, "no photos in this folder"
        yield from inside
