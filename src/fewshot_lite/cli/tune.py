"""The command `tune`; its settings are the fields of `TuneConfig`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fewshot_lite.cli.options import Device, Force, Json
from fewshot_lite.cli.recalling import recall
from fewshot_lite.cli.settings import with_settings
from fewshot_lite.cli.training_runs import check_run, finish
from fewshot_lite.core.ranks import refuse_ranks
from fewshot_lite.training.tune_config import TuneConfig


@with_settings(TuneConfig)
def tune(
    config: TuneConfig,
    data: Annotated[Path, typer.Argument(help="Class folders, or a folder of such data sets.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            is_eager=True,
            callback=recall(TuneConfig),
            help="The backbone to write.",
        ),
    ],
    device: Device = "auto",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            is_eager=True,
            callback=recall(TuneConfig),
            help="Go on with an interrupted run, with its flags.",
        ),
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Tune a trained backbone on many data sets at once, before meta-training on it."""
    config.check()
    refuse_ranks("tune")
    check_run(data, output, resume=resume, force=force)
    from fewshot_lite.cli.render import terminal as render
    from fewshot_lite.training.tuning import tune as run

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
    unseen = ["--unseen-only"] if config.leave_out else []
    onward = render.command(
        "meta-train", data, "-o", "model.safetensors", "--weights", output, *unseen
    )
    finish(asdict(result), onward, unit="steps", done=result.step, json=json)
