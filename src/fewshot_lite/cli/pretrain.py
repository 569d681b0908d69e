"""The commands `pretrain` and `tune`; their settings are the fields of their configurations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fewshot_lite.cli.options import Device, Force, Json, argument
from fewshot_lite.cli.settings import with_settings
from fewshot_lite.cli.training_runs import check_run, finish, output_flag, resume_flag
from fewshot_lite.core.ranks import refuse_ranks
from fewshot_lite.training.pretrain_config import PretrainConfig
from fewshot_lite.training.tune_config import TuneConfig

Data = Annotated[Path, argument("Class folders, or a folder of such data sets.")]


@with_settings(PretrainConfig)
def pretrain(
    config: PretrainConfig,
    data: Data,
    output: Annotated[Path, output_flag(PretrainConfig, "The backbone to write.")],
    device: Device = "auto",
    resume: Annotated[bool, resume_flag(PretrainConfig)] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train a backbone from scratch by supervised learning, where none can be downloaded."""
    _check("pretrain", config, data, output, resume=resume, force=force)
    from fewshot_lite.training.pretrain import pretrain as run

    options = {"device": device, "resume": resume, "force": force}
    _run(run, config, data, output, options, json=json)


@with_settings(TuneConfig)
def tune(
    config: TuneConfig,
    data: Data,
    output: Annotated[Path, output_flag(TuneConfig, "The backbone to write.")],
    device: Device = "auto",
    resume: Annotated[bool, resume_flag(TuneConfig)] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Tune a trained backbone on many data sets at once, before meta-training on it."""
    _check("tune", config, data, output, resume=resume, force=force)
    from fewshot_lite.training.tuning import tune as run

    options = {"device": device, "resume": resume, "force": force}
    _run(run, config, data, output, options, json=json)


def _check(
    name: str,
    config: PretrainConfig | TuneConfig,
    data: Path,
    output: Path,
    *,
    resume: bool,
    force: bool,
) -> None:
    """What can be refused before torch is imported."""
    config.check()
    refuse_ranks(name)
    check_run(data, output, resume=resume, force=force)


def _run(
    run: Callable[..., Any],
    config: PretrainConfig | TuneConfig,
    data: Path,
    output: Path,
    options: dict[str, Any],
    *,
    json: bool,
) -> None:
    """Train, say how it ended and what comes next."""
    from fewshot_lite.cli.render import terminal as render

    with render.training_bars() as report:
        result = run(data, output, config, report=report, notice=render.print_note, **options)
    unseen = ["--unseen-only"] if config.leave_out else []
    onward = render.command(
        "meta-train", data, "-o", "model.safetensors", "--weights", output, *unseen
    )
    finish(asdict(result), onward, unit="steps", done=result.step, json=json)
