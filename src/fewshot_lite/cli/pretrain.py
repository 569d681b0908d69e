"""The command that trains a backbone from scratch: `pretrain`. Registered in `cli`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fewshot_lite.cli.options import Device, Force, Json, Precision, Resume
from fewshot_lite.cli.training_runs import check_run, finish
from fewshot_lite.core.ranks import refuse_ranks
from fewshot_lite.training.pretrain_config import PretrainConfig

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
    refuse_ranks("pretrain")
    check_run(data, output, resume=resume, force=force)
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.training.pretrain import pretrain as run

    with render.training_bars() as report:
        result = run(
            data,
            output,
            config,
            device=device,
            resume=resume,
            force=force,
            report=report,
            notice=render.print_note,
        )
    unseen = ["--unseen-only"] if leave_out else []
    onward = render.command(
        "meta-train", data, "-o", "model.safetensors", "--weights", output, *unseen
    )
    finish(asdict(result), onward, unit="steps", done=result.step, json=json)
