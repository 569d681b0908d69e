"""The command `pretrain`; its settings are the fields of `PretrainConfig`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from fewshot_lite.cli.options import Device, Force, Json, argument, option
from fewshot_lite.cli.recalling import recall
from fewshot_lite.cli.settings import with_settings
from fewshot_lite.cli.training_runs import check_run, finish
from fewshot_lite.core.ranks import refuse_ranks
from fewshot_lite.training.pretrain_config import PretrainConfig


@with_settings(PretrainConfig)
def pretrain(
    config: PretrainConfig,
    data: Annotated[
        Path, argument("Class folders, or a folder of such data sets.", metavar="DATA")
    ],
    output: Annotated[
        Path,
        option(
            "The backbone to write.",
            "--output",
            "-o",
            is_eager=True,
            callback=recall(PretrainConfig),
        ),
    ],
    device: Device = "auto",
    resume: Annotated[
        bool,
        option(
            "Go on with an interrupted run, with its flags.",
            "--resume",
            is_eager=True,
            callback=recall(PretrainConfig),
        ),
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train a backbone from scratch by supervised learning, where none can be downloaded."""
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
    unseen = ["--unseen-only"] if config.leave_out else []
    onward = render.command(
        "meta-train", data, "-o", "model.safetensors", "--weights", output, *unseen
    )
    finish(asdict(result), onward, unit="steps", done=result.step, json=json)
