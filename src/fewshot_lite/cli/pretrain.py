"""The commands `pretrain` and `tune`; their settings are the fields of their configurations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from fewshot_lite.cli.commands import COMMANDS
from fewshot_lite.cli.options import Device, Force, Json, argument
from fewshot_lite.cli.settings import with_settings
from fewshot_lite.cli.training_runs import check_run, finish, output_flag, resume_flag
from fewshot_lite.core.ranks import refuse_ranks
from fewshot_lite.training.pretrain_config import PretrainConfig
from fewshot_lite.training.tune_config import TuneConfig

_Data = Annotated[Path, argument("Class folders, or a folder of such data sets.", metavar="DATA")]
_Output = Annotated[Path, output_flag("The backbone to write.")]
_Resume = Annotated[bool, resume_flag()]


def _command(config: type[Any], module: str, name: str) -> Callable[..., None]:
    """Return a command that trains a backbone by the function `name` of a module of `training`."""

    def command(
        config: Any,
        data: _Data,
        output: _Output,
        device: Device = "auto",
        resume: _Resume = False,
        force: Force = False,
        json: Json = False,
    ) -> None:
        config.check()
        refuse_ranks(name)
        check_run(data, output, resume=resume, force=force)
        from fewshot_lite.cli.render import terminal as render

        train = getattr(import_module(f"fewshot_lite.training.{module}"), name)
        with render.training_bars() as report:
            result = train(
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
        onward = ("meta-train", data, "-o", "model.safetensors", "--weights", output, *unseen)
        finish(asdict(result), onward, unit="steps", done=result.step, json=json)

    command.__doc__ = COMMANDS[name].summary
    return with_settings(config)(command)


pretrain = _command(PretrainConfig, "pretrain", "pretrain")
tune = _command(TuneConfig, "tuning", "tune")
