"""The commands that train: `pretrain` and `meta-train`. Registered in `cli`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fewshot_lite.cli_options import INTERRUPTED, Device, Force, Json, Precision, Resume
from fewshot_lite.config import MetaTrainConfig, PretrainConfig, check_workers
from fewshot_lite.data.folders import require_folder
from fewshot_lite.errors import UsageError
from fewshot_lite.figures import check_figure
from fewshot_lite.files import check_output

_TRAIN = MetaTrainConfig()
_PRE = PretrainConfig()


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
    mixed_sizes: Annotated[
        bool, typer.Option(help="Draw each step's image size instead of growing it.")
    ] = _PRE.mixed_sizes,
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
        mixed_sizes=mixed_sizes,
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
    from fewshot_lite.pretraining import pretrain as run

    with render.training_bars() as report:
        result = run(data, output, config, device=device, resume=resume, force=force, report=report)
    unseen = ["--unseen-only"] if leave_out else []
    onward = render.command(
        "meta-train", data, "-o", "model.safetensors", "--weights", output, *unseen
    )
    _finish(asdict(result), onward, unit="steps", done=result.step, json=json)


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
    metric: Annotated[
        Literal["euclidean", "cosine"] | None,
        typer.Option(help="Of protonets: distance to class means.  [default: euclidean]"),
    ] = _TRAIN.metric,
    h: Annotated[
        str, typer.Option("--h", metavar="N|all", help="Support images to back-propagate.")
    ] = str(_TRAIN.h),
    sampling: Annotated[
        Literal["uniform", "informed", "balanced"], typer.Option(help="How they are drawn.")
    ] = _TRAIN.sampling,
    gradient: Annotated[
        Literal["lite", "full", "small-task"],
        typer.Option(help="lite, or a baseline: one graph of all images; H support images alone."),
    ] = _TRAIN.gradient,
    image_size: Annotated[
        int | None,
        typer.Option(help="Pixels.  [default: the backbone's own]"),
    ] = _TRAIN.image_size,
    scales: Annotated[
        str,
        typer.Option(
            metavar="N,N", help="See images reduced by these factors; 1,2 as they are and halved."
        ),
    ] = "1",
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
    micro_batch: Annotated[str, typer.Option(metavar="N|auto", help="Images in a pass.")] = "auto",
    precision: Precision = _TRAIN.precision,
    tf32: Annotated[
        bool | None,
        typer.Option(
            "--tf32/--no-tf32",
            help="On CUDA: float32 convolutions in TF32; heads never.",
            show_default="torch's own, on",
        ),
    ] = _TRAIN.tf32,
    compile: Annotated[
        bool, typer.Option("--compile", help="Make kernels with torch.compile.")
    ] = _TRAIN.compile,
    workers: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="Processes that read photos; 0 for a thread. auto: by device and memory.",
        ),
    ] = "auto",
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep resized images here, for this run and others."),
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the curves here as well.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the curves at the end (.png, .svg, .pdf)."),
    ] = None,
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
        metric=metric,
        h=_number_or(h, "all", "--h"),
        sampling=sampling,
        gradient=gradient,
        image_size=image_size,
        scales=_scales(scales),
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
        micro_batch=_number_or(micro_batch, "auto", "--micro-batch"),
        precision=precision,
        tf32=tf32,
        compile=compile,
        seed=seed,
    )
    config.check()
    processes = _number_or(workers, "auto", "--workers")
    check_workers(processes)
    if plot is not None:
        check_figure(plot, output)
        check_output(plot, force=force or resume, flag="--plot")
    _check_run(data, output, resume=resume, force=force)
    from fewshot_lite import render
    from fewshot_lite.meta_training import meta_train as run

    with render.training_bars() as report:
        result = run(
            data,
            output,
            config,
            validate=validate,
            device=device,
            resume=resume,
            force=force,
            workers=processes,
            cache=cache,
            tensorboard=tensorboard,
            plot=plot,
            report=report,
            notify=render.print_note,
        )
    onward = render.command("adapt", "./my_objects", "--base", output)
    _finish(asdict(result), onward, unit="tasks", done=result.tasks, json=json)


def _number_or(text: str, word: str, flag: str) -> int | None:
    """An option that takes a number, or a word that stands for None."""
    if text == word:
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{flag} {text}: give a number or '{word}'.") from None


def _scales(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--scales {text}: give whole numbers, e.g. 1,2.") from None


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
        sys.exit(INTERRUPTED)  # not typer.Exit: what there is to say has been said
