"""The command line: parses and renders; what it does is in the modules that the commands call.

Those import torch, which takes seconds, so they are imported inside the commands, and so is all of
Rich that help texts do not need: those and argument errors come at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewshot_lite import __version__, cli_data, cli_evaluate, cli_training
from fewshot_lite.cli_options import INTERRUPTED, Device, Force, Json
from fewshot_lite.data.folders import PHOTO_ENDINGS, require_folder, walk_photos
from fewshot_lite.errors import FewshotError, UsageError
from fewshot_lite.files import DEFAULT_BASE, DEFAULT_PERSONAL, check_output, find_base

if TYPE_CHECKING:
    from fewshot_lite.personal import Prediction

app = typer.Typer(
    name="fewshot-lite",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Teach a classifier your own things from a few photos: offline, in seconds.\n\n"
    "[bold]Try it[/]: fewshot-lite demo\n\n"
    "[bold]Your photos[/], one folder per thing:\n\n"
    "  fewshot-lite adapt ./my_objects\n\n"
    "  fewshot-lite classify photo.jpg\n\n"
    "[bold]A base model of your own[/]: fewshot-lite pretrain, then fewshot-lite meta-train",
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"fewshot-lite {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: fewshot-lite adapt ./my_objects --output mine.safetensors")
def adapt(
    folder: Annotated[Path, typer.Argument(help="A folder with one folder of photos per class.")],
    base: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="The meta-trained model to adapt.")
    ] = DEFAULT_BASE,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the personal model goes.")
    ] = DEFAULT_PERSONAL,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Learn the classes of a folder of photos, in one forward pass."""
    require_folder(folder)
    check_output(output, force=force)
    source = find_base(base)
    if output.exists() and source.exists() and output.samefile(source):
        raise UsageError(f"--output {output}: the same file as --base. Give another name.")
    if output.suffix.lower() in PHOTO_ENDINGS:
        raise UsageError(f"--output {output}: the name of a photo. End it in .safetensors.")
    from fewshot_lite import render
    from fewshot_lite.devices import pick_device
    from fewshot_lite.meta_model import MetaModel

    model = MetaModel.load(base, device=str(pick_device(device)))
    with render.counting_bar("Reading photos") as progress:
        personal = model.adapt(folder, on_done=progress)
    personal.save(output, force=force)
    adaptation = personal.adaptation
    assert adaptation is not None
    if json:
        render.print_json(
            {
                "model": output,
                "classes": dict(zip(adaptation.class_names, adaptation.used, strict=True)),
                "skipped": [
                    {"path": item.path, "reason": item.reason} for item in adaptation.skipped
                ],
                "seconds": adaptation.seconds,
                "base": personal.provenance["base"],
            }
        )
    else:
        where = () if output == DEFAULT_PERSONAL else ("--model", output)
        render.print_adaptation(
            adaptation, output, [render.command("classify", "photo.jpg", *where)]
        )
    if adaptation.skipped:
        raise typer.Exit(1)


@app.command(epilog="Example: fewshot-lite classify photo.jpg holiday/ --top 1")
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


@app.command(epilog="Example: fewshot-lite demo --output ./drawings")
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to create.")] = Path(
        "fewshot-lite-demo"
    ),
    base: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="The meta-trained model to adapt.")
    ] = DEFAULT_BASE,
    seed: Annotated[int, typer.Option(help="Of the drawings.")] = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw a few kinds of things, adapt to some drawings, name the others."""
    find_base(base)
    from fewshot_lite import render
    from fewshot_lite.demo.run import run_demo

    with render.err.status("") as status:
        result = run_demo(
            output,
            base=base,
            seed=seed,
            force=force,
            on_phase=lambda phase: status.update(f"{phase}…"),
        )
    if json:
        render.print_json(asdict(result) | {"accuracy": result.accuracy})
    else:
        render.print_demo(result)


@app.command(epilog="Example: fewshot-lite info personal.safetensors")
def info(
    file: Annotated[Path, typer.Argument(help="A file that fewshot-lite wrote.")],
    json: Json = False,
) -> None:
    """Say what a file is, where it is from and what it scored."""
    from fewshot_lite import render
    from fewshot_lite.checkpoint import read_meta

    meta = read_meta(file)
    if json:
        render.print_json(meta)
    else:
        render.print_info(meta, file, file.stat().st_size)


app.command(epilog="Example: fewshot-lite pretrain ./images --output backbone.safetensors")(
    cli_training.pretrain
)
app.command("meta-train", epilog="Example: fewshot-lite meta-train ./images -o model.safetensors")(
    cli_training.meta_train
)
app.add_typer(cli_data.app, name="data")

app.command(epilog="Example: fewshot-lite evaluate default cosine finetune-head ./images")(
    cli_evaluate.evaluate
)


def _print_error(message: str) -> None:
    from fewshot_lite import render

    render.print_error(message)


def main() -> None:
    """Entry point: every known failure is one line and an exit code."""
    try:
        code = app(standalone_mode=False)
    except FewshotError as error:
        _print_error(str(error))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:  # `fewshot-lite classify photos/ | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a folder taken away: no fault of the program
        where = f"{error.filename}: " if error.filename else ""
        _print_error(f"{where}{error.strerror or error}.")
        sys.exit(1)
    except Exception as error:
        # What Click raises for arguments. Its class has no name that all versions of Typer export.
        describe = getattr(error, "format_message", None)
        if describe is None:
            raise
        if message := describe().strip():  # nothing if it was a call for help, which is printed
            context = getattr(error, "ctx", None)
            hint = f" Try `{context.command_path} --help`." if context else ""
            _print_error(message.rstrip(".") + "." + hint)
        sys.exit(getattr(error, "exit_code", 2))
    if code == INTERRUPTED:
        _print_error("Interrupted.")
    sys.exit(code)
