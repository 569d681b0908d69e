"""The command `meta-train`; its settings are the fields of `MetaTrainConfig`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fewshot_lite.cli.config_file import as_flags, read_config, to_toml, use_preset
from fewshot_lite.cli.options import argument, device_option, force_flag, json_flag, option
from fewshot_lite.cli.settings import with_settings
from fewshot_lite.cli.training_runs import check_run, finish, output_flag, resume_flag
from fewshot_lite.core.config import WORKERS, check_number
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.figures import check_figure
from fewshot_lite.core.files import check_output
from fewshot_lite.core.ranks import place
from fewshot_lite.training.meta_config import DEVICES, OUTPUT, VALIDATION, MetaTrainConfig


@with_settings(MetaTrainConfig)
def meta_train(
    config: MetaTrainConfig,
    data: Annotated[
        Path | None,
        argument("Class folders, or a folder of such data sets.", metavar="DATA", shown=False),
    ] = None,
    preset: Annotated[
        str,
        option(
            "Where the flags start from; paper is Simple CNAPs with LITE as published.",
            metavar="default|paper",
            is_eager=True,
            callback=use_preset,
        ),
    ] = "default",
    config_file: Annotated[
        Path | None,
        option(
            "Flags by name, e.g. tasks-per-step = 16; flags of the command line win.",
            "--config",
            metavar="FILE.toml",
            is_eager=True,
            callback=read_config,
        ),
    ] = None,
    show_config: Annotated[
        bool, option("Print the resulting flags as TOML, and exit.", "--show-config")
    ] = False,
    validate: Annotated[
        Path | None,
        option(
            "Data for validation, as DATA.",
            panel=VALIDATION,
            metavar="FOLDER",
            shown="a tenth of the classes",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        output_flag("The checkpoint to write; state and log lie beside it.", OUTPUT),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        option("Write the curves for TensorBoard as well.", panel=OUTPUT, metavar="FOLDER"),
    ] = None,
    plot: Annotated[
        Path | None,
        option("Plot the curves at the end (.png, .svg, .pdf).", panel=OUTPUT, metavar="FILE"),
    ] = None,
    resume: Annotated[bool, resume_flag(OUTPUT)] = False,
    force: Annotated[bool, force_flag(OUTPUT)] = False,
    json: Annotated[bool, json_flag(OUTPUT)] = False,
    device: Annotated[str, device_option(DEVICES)] = "auto",
    workers: Annotated[
        int | None,
        option(
            "Processes that read photos; 0 for a thread of this one.",
            panel=DEVICES,
            metavar="N",
            shown="by device and memory",
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        option(
            "A folder to keep resized images in, for this run and others.",
            panel=DEVICES,
            metavar="FOLDER",
        ),
    ] = None,
) -> None:
    """Meta-train a model that adapts in one forward pass with LITE, or by gradient steps.

    On several GPUs begin with `torchrun --nproc-per-node N -m fewshot_lite meta-train`.
    """
    config.check()
    if workers is not None:
        check_number("--workers", workers, WORKERS)
    if show_config:
        paths = {"output": output, "validate": validate, "cache": cache}
        paths |= {"tensorboard": tensorboard, "plot": plot}
        others: dict[str, Any] = {k: str(path) for k, path in paths.items() if path is not None}
        others |= {"device": device} | ({} if workers is None else {"workers": workers})
        sys.stdout.write(to_toml(as_flags(config) | others))
        return
    if data is None:
        raise UsageError("Missing argument 'DATA', a folder. Try `fewshot-lite meta-train --help`.")
    if output is None:
        raise UsageError("Missing option '--output' / '-o'. Try `fewshot-lite meta-train --help`.")
    if plot is not None:
        check_figure(plot, output, data=[data])
    if place().first:  # other ranks may start after the first one has written its files
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
    onward = ("adapt", "./my_objects", "--base", output)
    finish(asdict(result), onward, unit="tasks", done=result.tasks, json=json)
