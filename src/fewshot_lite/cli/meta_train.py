"""The command `meta-train`: a table of its flags, and what becomes of them. Registered in `cli`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from fewshot_lite.cli.config_file import as_flags, read_config, to_toml, use_preset
from fewshot_lite.cli.options import Device, Force, Json, Precision, Resume
from fewshot_lite.cli.training_runs import check_run, finish
from fewshot_lite.core.config import Pooling, check_workers
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.figures import check_figure
from fewshot_lite.core.files import check_output
from fewshot_lite.core.ranks import place
from fewshot_lite.training.meta_config import MetaTrainConfig

_TRAIN = MetaTrainConfig()


def meta_train(
    data: Annotated[
        Path | None,
        typer.Argument(help="Class folders, or a folder of such data sets.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where the checkpoint goes.  [required]"),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            metavar="default|paper",
            is_eager=True,
            callback=use_preset,
            help="Where flags start from; paper is Simple CNAPs with LITE as published.",
        ),
    ] = "default",
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE.toml",
            is_eager=True,
            callback=read_config,
            help="Flags by name, e.g. tasks-per-step = 16; those given here win.",
        ),
    ] = None,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print what the flags come to, as TOML, and end.")
    ] = False,
    learner: Annotated[
        str,
        typer.Option(metavar="NAME", help="simple-cnaps, cnaps, protonets, maml, fomaml or imaml."),
    ] = _TRAIN.learner,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A torchvision network, or conv4.  [default: resnet18]"),
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
    inner_steps: Annotated[
        int | None,
        typer.Option(help="Of maml, fomaml, imaml: steps on the support set.  [default: 5; 16]"),
    ] = _TRAIN.inner_steps,
    inner_lr: Annotated[
        float | None, typer.Option(help="Their learning rate.  [default: 0.1]")
    ] = _TRAIN.inner_lr,
    inner_head: Annotated[
        Literal["means", "learned"] | None,
        typer.Option(help="Begin at class means, or as learned for one way.  [default: means]"),
    ] = _TRAIN.inner_head,
    statistics: Annotated[
        Literal["running", "support"] | None,
        typer.Option(
            help="What BatchNorm normalises by: its own statistics, or the support images', which "
            "leaves it none for other methods.  [default: support if --weights none, else running]"
        ),
    ] = _TRAIN.statistics,
    pattern: Annotated[
        str | None,
        typer.Option(metavar="0011", help="Layers that adapt, the head last.  [default: all]"),
    ] = _TRAIN.pattern,
    lam: Annotated[
        float | None,
        typer.Option(
            "--lambda", help="Of imaml: how near adaptation stays to its start.  [default: 2]"
        ),
    ] = _TRAIN.lam,
    cg_steps: Annotated[
        int | None, typer.Option(help="Of imaml: conjugate gradient steps.  [default: 5]")
    ] = _TRAIN.cg_steps,
    inner_solver: Annotated[
        Literal["gd", "hessian-free"] | None,
        typer.Option(help="Of imaml: gradient descent, or Newton steps.  [default: gd]"),
    ] = _TRAIN.inner_solver,
    vectorise: Annotated[
        bool, typer.Option("--vectorise", help="All tasks of a step at once; of one shape.")
    ] = _TRAIN.vectorise,
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
    pooling: Annotated[
        Pooling, typer.Option(help="Keep each channel's mean over the last map, or its maximum.")
    ] = _TRAIN.pooling,
    min_way: Annotated[int, typer.Option(help="Fewest classes of a task.")] = _TRAIN.min_way,
    max_way: Annotated[int, typer.Option(help="Most classes of a task.")] = _TRAIN.max_way,
    max_support: Annotated[
        int, typer.Option(help="Most support images of a task.")
    ] = _TRAIN.max_support,
    max_shot: Annotated[
        int, typer.Option(help="Most support images of a class.")
    ] = _TRAIN.max_shot,
    shot: Annotated[
        int | None, typer.Option(help="Support images of each class, exactly.  [default: uneven]")
    ] = _TRAIN.shot,
    queries: Annotated[int, typer.Option(help="Most query images of a class.")] = _TRAIN.queries,
    tasks: Annotated[int, typer.Option(help="Tasks in all.")] = _TRAIN.tasks,
    tasks_per_step: Annotated[int, typer.Option()] = _TRAIN.tasks_per_step,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = _TRAIN.lr,
    schedule: Annotated[
        Literal["cosine", "constant"], typer.Option(help="Of the learning rate, after the warm-up.")
    ] = _TRAIN.schedule,
    warmup: Annotated[
        float, typer.Option(help="Share of the tasks to warm up over, or, from 1 on, tasks.")
    ] = _TRAIN.warmup,
    optimizer: Annotated[Literal["adam", "adamw"], typer.Option()] = _TRAIN.optimizer,
    weight_decay: Annotated[
        float | None, typer.Option(help="Of adamw.  [default: 0.01]")
    ] = _TRAIN.weight_decay,
    lr_factor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUP=FACTOR",
            help="On the learning rate of set-encoder, film, head or backbone; can be repeated.",
        ),
    ] = None,
    clip_norm: Annotated[
        float | None, typer.Option(help="Longest gradient of a step.  [default: any]")
    ] = _TRAIN.clip_norm,
    ema: Annotated[
        float | None,
        typer.Option(
            metavar="DECAY", help="Validate and save averaged weights, e.g. 0.999.  [default: off]"
        ),
    ] = _TRAIN.ema,
    penalty: Annotated[float, typer.Option(help="Weight of the FiLM penalty.")] = _TRAIN.penalty,
    shifts: Annotated[
        float, typer.Option(help="Share of tasks shifted to another domain (grey, inverted, …).")
    ] = _TRAIN.shifts,
    instances: Annotated[
        float,
        typer.Option(help="Share of tasks whose classes are single photos, told by their views."),
    ] = _TRAIN.instances,
    augment: Annotated[
        bool, typer.Option("--augment/--no-augment", help="Random crops, flips and colours.")
    ] = _TRAIN.augment,
    rotate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A data set whose classes are turned by quarter turns, each task anew.",
        ),
    ] = None,
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
        int, typer.Option(help="Tasks between validations, of which the best is kept; 0 for none.")
    ] = _TRAIN.validate_every,
    patience: Annotated[
        int, typer.Option(help="End after so many validations without a better one; 0 for never.")
    ] = _TRAIN.patience,
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
    """Meta-train a model that adapts in one forward pass, with LITE, or by gradient steps."""
    config = MetaTrainConfig(
        learner=learner,
        backbone=backbone,
        weights=weights,
        backbone_lr=backbone_lr,
        metric=metric,
        inner_steps=inner_steps,
        inner_lr=inner_lr,
        inner_head=inner_head,
        statistics=statistics,
        pattern=pattern,
        lam=lam,
        cg_steps=cg_steps,
        inner_solver=inner_solver,
        vectorise=vectorise,
        h=_number_or(h, "all", "--h"),
        sampling=sampling,
        gradient=gradient,
        image_size=image_size,
        scales=_scales(scales),
        pooling=pooling,
        min_way=min_way,
        max_way=max_way,
        max_support=max_support,
        max_shot=max_shot,
        shot=shot,
        queries=queries,
        tasks=tasks,
        tasks_per_step=tasks_per_step,
        lr=lr,
        schedule=schedule,
        warmup=warmup,
        optimizer=optimizer,
        weight_decay=weight_decay,
        lr_factor=_factors(lr_factor or []),
        clip_norm=clip_norm,
        ema=ema,
        penalty=penalty,
        shifts=shifts,
        instances=instances,
        augment=augment,
        rotate=tuple(rotate or ()),
        unseen_only=unseen_only,
        no_flip=tuple(no_flip or ()),
        tracks=tuple(tracks or ()),
        validate_every=validate_every,
        patience=patience,
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
    if show_config:
        given = {"output": output, "validate": validate, "cache": cache}
        given |= {"tensorboard": tensorboard, "plot": plot}
        others = {name: str(value) for name, value in given.items() if value is not None}
        others |= {"device": device}
        threads = {} if processes is None else {"workers": processes}
        sys.stdout.write(to_toml(as_flags(config) | others | threads))
        return
    if data is None:
        raise UsageError("Missing argument 'DATA', a folder. Try `fewshot-lite meta-train --help`.")
    if output is None:
        raise UsageError("Missing option '--output' / '-o'. Try `fewshot-lite meta-train --help`.")
    if plot is not None:
        check_figure(plot, output)
    if place().first:  # the others may come when its files are there
        check_run(data, output, resume=resume, force=force)
        if plot is not None:
            check_output(plot, force=force or resume, flag="--plot")
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.training.meta_train import meta_train as run

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
            notice=render.print_note,
        )
    onward = render.command("adapt", "./my_objects", "--base", output)
    finish(asdict(result), onward, unit="tasks", done=result.tasks, json=json)


def _number_or(text: str, word: str, flag: str) -> int | None:
    """An option that takes a number, or a word that stands for None."""
    if text == word:
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{flag} {text}: give a number or '{word}'.") from None


def _factors(texts: list[str]) -> dict[str, float]:
    """GROUP=FACTOR, repeated."""
    factors = {}
    for text in texts:
        name, _, factor = text.partition("=")
        try:
            factors[name] = float(factor)
        except ValueError:
            raise UsageError(f"--lr-factor {text}: give GROUP=FACTOR, e.g. head=2.") from None
    return factors


def _scales(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--scales {text}: give whole numbers, e.g. 1,2.") from None
