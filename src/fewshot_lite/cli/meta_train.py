"""The command `meta-train`; its settings are the fields of `MetaTrainConfig`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fewshot_lite.cli.config_file import as_flags, read_config, to_toml, use_preset
from fewshot_lite.cli.recalling import recall
from fewshot_lite.cli.settings import with_settings
from fewshot_lite.cli.training_runs import check_run, finish
from fewshot_lite.core.config import WORKERS, check_number
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.figures import check_figure
from fewshot_lite.core.files import check_output
from fewshot_lite.core.ranks import place
from fewshot_lite.training.meta_config import DEVICES, OUTPUT, VALIDATION, MetaTrainConfig


def _option(help: str, panel: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


@with_settings(MetaTrainConfig)
def meta_train(
    config: MetaTrainConfig,
    data: Annotated[
        Path | None,
        typer.Argument(help="Class folders, or a folder of such data sets.", show_default=False),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            metavar="default|paper",
            is_eager=True,
            callback=use_preset,
            help="Where the flags start from; paper is Simple CNAPs with LITE as published.",
        ),
    ] = "default",
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE.toml",
            is_eager=True,
            callback=read_config,
            help="Flags by name, e.g. tasks-per-step = 16; flags of the command line win.",
        ),
    ] = None,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print the resulting flags as TOML, and exit.")
    ] = False,
    validate: Annotated[
        Path | None,
        _option("Data for validation.", VALIDATION, show_default="a tenth of the classes"),
    ] = None,
    output: Annotated[
        Path | None,
        _option(
            "Checkpoint to write; state and log lie beside it.  [required]",
            OUTPUT,
            "--output",
            "-o",
            is_eager=True,
            callback=recall(MetaTrainConfig),
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        _option("Write the curves for TensorBoard as well.", OUTPUT, metavar="FOLDER"),
    ] = None,
    plot: Annotated[
        Path | None,
        _option("Plot the curves at the end (.png, .svg, .pdf).", OUTPUT, metavar="FILE"),
    ] = None,
    resume: Annotated[
        bool,
        _option(
            "Continue an interrupted run, with its flags.",
            OUTPUT,
            "--resume",
            is_eager=True,
            callback=recall(MetaTrainConfig),
        ),
    ] = False,
    force: Annotated[bool, _option("Overwrite the output.", OUTPUT, "--force")] = False,
    json: Annotated[bool, _option("Print the result as JSON.", OUTPUT, "--json")] = False,
    device: Annotated[
        str, _option("auto, cpu, cuda, cuda:1 or mps.", DEVICES, metavar="NAME")
    ] = "auto",
    workers: Annotated[
        int | None,
        _option(
            "Processes that read photos; 0 for a thread.",
            DEVICES,
            metavar="N",
            show_default="by device and memory",
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        _option("Keep resized images here, for this run and others.", DEVICES, metavar="FOLDER"),
    ] = None,
) -> None:
    """Meta-train a model that adapts in one forward pass with LITE, or by gradient steps.

    On several GPUs: torchrun --nproc-per-node N -m fewshot_lite meta-train …
    """
    config.check()
    if workers is not None:
        check_number("--workers", workers, WORKERS)
    if show_config:
        given = {"output": output, "validate": validate, "cache": cache}
        given |= {"tensorboard": tensorboard, "plot": plot}
        others: dict[str, Any] = {k: str(path) for k, path in given.items() if path is not None}
        others |= {"device": device} | ({} if workers is None else {"workers": workers})
        sys.stdout.write(to_toml(as_flags(config) | others))
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
            workers=workers,
            cache=cache,
            tensorboard=tensorboard,
            plot=plot,
            report=report,
            notice=render.print_note,
        )
    onward = render.command("adapt", "./my_objects", "--base", output)
    finish(asdict(result), onward, unit="tasks", done=result.tasks, json=json)
