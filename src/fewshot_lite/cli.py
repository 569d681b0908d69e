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
from typing import Annotated, Any, Literal

import typer

from fewshot_lite import __version__
from fewshot_lite.config import MetaTrainConfig, PretrainConfig
from fewshot_lite.data.folders import require_folder, walk_photos
from fewshot_lite.errors import FewshotError, UsageError
from fewshot_lite.files import DEFAULT_BASE, DEFAULT_PERSONAL, check_output, find_base

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

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", metavar="NAME")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(help="Of the networks; auto is bfloat16 where that is faster."),
]

#: Exit code of a program ended by Ctrl-C.
_INTERRUPTED = 130

_TRAIN = MetaTrainConfig()
_PRE = PretrainConfig()


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
    find_base(base)
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
    from fewshot_lite.personal import PersonalModel, Prediction

    personal = PersonalModel.load(model, device=str(pick_device(device)))
    found = list(_expand(paths))
    readable = (path for path, problem in found if problem is None)
    answers = personal.classify_stream(readable, top=top)
    results: list[Prediction] = []
    failed = 0
    for path, problem in found:
        prediction = Prediction(path, (), problem) if problem else next(answers)
        failed += prediction.problem is not None
        if prediction.problem and len(found) == 1 and not json:
            raise FewshotError(f"{path}: {prediction.problem}.")
        if json:
            results.append(prediction)
        else:
            render.print_prediction(prediction)
    if json:
        render.print_json([render.prediction_json(prediction) for prediction in results])
    if failed:
        if not json:
            render.err.print(f"{failed} of {len(found)} files could not be classified.")
        raise typer.Exit(1)


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


@app.command(epilog="Example: fewshot-lite demo --output /tmp/demo")
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


@app.command(epilog="Example: fewshot-lite pretrain ./images --output backbone.safetensors")
def pretrain(
    data: Annotated[Path, typer.Argument(help="Class folders, or a folder of such data sets.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the backbone goes.")],
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="A torchvision network.  [default: resnet18]")
    ] = _PRE.backbone,
    weights: Annotated[
        str, typer.Option(metavar="default|none|FILE", help="Weights to start from.")
    ] = _PRE.weights,
    image_size: Annotated[int, typer.Option(help="Pixels, at the end.")] = _PRE.image_size,
    min_image_size: Annotated[int, typer.Option(help="Pixels, at first.")] = _PRE.min_image_size,
    epochs: Annotated[int, typer.Option()] = _PRE.epochs,
    batch_size: Annotated[int, typer.Option()] = _PRE.batch_size,
    lr: Annotated[float, typer.Option(help="Peak learning rate (SGD).")] = _PRE.lr,
    weight_decay: Annotated[float, typer.Option()] = _PRE.weight_decay,
    label_smoothing: Annotated[float, typer.Option()] = _PRE.label_smoothing,
    leave_out: Annotated[
        float, typer.Option(help="Share of the classes kept for meta-train --unseen-only.")
    ] = _PRE.leave_out,
    no_flip: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A data set not to mirror; can be repeated."),
    ] = None,
    precision: Precision = _PRE.precision,
    seed: Annotated[int, typer.Option()] = _PRE.seed,
    device: Device = "auto",
    resume: Resume = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train a backbone from scratch, where none can be downloaded."""
    config = PretrainConfig(
        backbone=backbone,
        weights=weights,
        image_size=image_size,
        min_image_size=min_image_size,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        leave_out=leave_out,
        no_flip=tuple(no_flip or ()),
        precision=precision,
        seed=seed,
    )
    config.check()
    _check_run(data, output, resume=resume, force=force)
    from fewshot_lite import render
    from fewshot_lite.pretrain import pretrain as run

    with render.training_bars() as report:
        result = run(data, output, config, device=device, resume=resume, force=force, report=report)
    onward = render.command("meta-train", data, "-o", "model.safetensors", "--weights", output)
    _finish(asdict(result), onward, unit="steps", done=result.step, json=json)


@app.command("meta-train", epilog="Example: fewshot-lite meta-train ./images -o model.safetensors")
def meta_train(
    data: Annotated[Path, typer.Argument(help="Class folders, or a folder of such data sets.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the checkpoint goes.")],
    learner: Annotated[
        str, typer.Option(metavar="NAME", help="simple-cnaps, cnaps or protonets.")
    ] = _TRAIN.learner,
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="A torchvision network.  [default: resnet18]")
    ] = _TRAIN.backbone,
    weights: Annotated[
        str,
        typer.Option(metavar="default|none|FILE", help="Of the backbone; what `pretrain` wrote."),
    ] = _TRAIN.weights,
    backbone_lr: Annotated[
        float | None,
        typer.Option(help="Learning rate of the backbone as a share of --lr; 0 freezes it."),
    ] = _TRAIN.backbone_lr,
    h: Annotated[
        str, typer.Option("--h", metavar="N|all", help="Support images to back-propagate.")
    ] = str(_TRAIN.h),
    sampling: Annotated[
        Literal["uniform", "informed"], typer.Option(help="How they are drawn.")
    ] = _TRAIN.sampling,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels.  [default: the backbone's, or 96]")
    ] = _TRAIN.image_size,
    min_way: Annotated[int, typer.Option(help="Fewest classes of a task.")] = _TRAIN.min_way,
    max_way: Annotated[int, typer.Option(help="Most classes of a task.")] = _TRAIN.max_way,
    max_support: Annotated[
        int, typer.Option(help="Most support images of a task.")
    ] = _TRAIN.max_support,
    max_shot: Annotated[
        int, typer.Option(help="Most support images of a class.")
    ] = _TRAIN.max_shot,
    queries: Annotated[int, typer.Option(help="Most query images of a class.")] = _TRAIN.queries,
    tasks: Annotated[int, typer.Option(help="Tasks in all.")] = _TRAIN.tasks,
    tasks_per_step: Annotated[int, typer.Option()] = _TRAIN.tasks_per_step,
    lr: Annotated[float, typer.Option(help="Peak learning rate (Adam).")] = _TRAIN.lr,
    penalty: Annotated[float, typer.Option(help="Weight of the FiLM penalty.")] = _TRAIN.penalty,
    shifts: Annotated[
        float, typer.Option(help="Share of tasks shifted to another domain (grey, inverted, …).")
    ] = _TRAIN.shifts,
    unseen_only: Annotated[
        bool, typer.Option("--unseen-only", help="Leave out classes the backbone was trained on.")
    ] = False,
    no_flip: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A data set not to mirror; can be repeated."),
    ] = None,
    tracks: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A data set with files TRACK_FRAME; can be repeated."),
    ] = None,
    validate: Annotated[
        Path | None, typer.Option(help="Data for validation.  [default: a tenth of the classes]")
    ] = None,
    validate_every: Annotated[
        int, typer.Option(help="Tasks between validations; 0 for none.")
    ] = _TRAIN.validate_every,
    save_every: Annotated[
        int, typer.Option(help="Tasks between checkpoints; what a crash costs at most.")
    ] = _TRAIN.save_every,
    micro_batch: Annotated[int, typer.Option(help="Images in a pass.")] = _TRAIN.micro_batch,
    precision: Precision = _TRAIN.precision,
    seed: Annotated[int, typer.Option()] = _TRAIN.seed,
    device: Device = "auto",
    resume: Resume = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Meta-train a model that adapts in one forward pass, with LITE."""
    config = MetaTrainConfig(
        learner=learner,
        backbone=backbone,
        weights=weights,
        backbone_lr=backbone_lr,
        h=_parse_h(h),
        sampling=sampling,
        image_size=image_size,
        min_way=min_way,
        max_way=max_way,
        max_support=max_support,
        max_shot=max_shot,
        queries=queries,
        tasks=tasks,
        tasks_per_step=tasks_per_step,
        lr=lr,
        penalty=penalty,
        shifts=shifts,
        unseen_only=unseen_only,
        no_flip=tuple(no_flip or ()),
        tracks=tuple(tracks or ()),
        validate_every=validate_every,
        save_every=save_every,
        micro_batch=micro_batch,
        precision=precision,
        seed=seed,
    )
    config.check()
    _check_run(data, output, resume=resume, force=force)
    from fewshot_lite import render
    from fewshot_lite.meta_train import meta_train as run

    with render.training_bars() as report:
        result = run(
            data,
            output,
            config,
            validate=validate,
            device=device,
            resume=resume,
            force=force,
            report=report,
        )
    onward = render.command("adapt", "./my_objects", "--base", output)
    _finish(asdict(result), onward, unit="tasks", done=result.tasks, json=json)


def _parse_h(text: str) -> int | None:
    if text == "all":
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--h {text}: give a number or 'all'.") from None


def _check_run(data: Path, output: Path, *, resume: bool, force: bool) -> None:
    require_folder(data)
    if not resume:
        check_output(output, force=force)


def _finish(result: dict[str, Any], onward: str, *, unit: str, done: int, json: bool) -> None:
    """Say how a training run ended and how to go on; exit code 130 if it was interrupted."""
    from fewshot_lite import render

    if json:
        render.print_json(result)
    else:
        render.print_run(result, onward, unit=unit, done=done)
    if not result["finished"]:
        sys.exit(_INTERRUPTED)  # not typer.Exit: what there is to say has been said


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
        code = _INTERRUPTED
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
            _print_error(message + hint)
        sys.exit(getattr(error, "exit_code", 2))
    if code == _INTERRUPTED:
        _print_error("Interrupted.")
    sys.exit(code)
