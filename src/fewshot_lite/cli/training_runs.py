"""The parts that `cli.pretrain` and `cli.meta_train` share: `--output`, `--resume`, the ending.

`--resume` reads the flags of the interrupted run from its state into Click's default map, so that
flags of the command line and of a file still win; those that differ from the run's are refused.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from fewshot_lite.cli.options import INTERRUPTED, option
from fewshot_lite.cli.settings import as_typed, config_of
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.files import check_output
from fewshot_lite.core.ranks import place
from fewshot_lite.core.tensor_files import read_meta
from fewshot_lite.images.folders import require_folder
from fewshot_lite.images.kinds import check_model_name
from fewshot_lite.training.run_files import previous, state_path

#: The entry of Click's `meta` that holds the flags of a `--config` file.
FROM_FILE = "fewshot-lite: flags of --config"


def output_flag(help: str, panel: str | None = None) -> Any:
    """Return the `--output` option of a training run."""
    return option(
        help, "--output", "-o", panel=panel, is_eager=True, callback=_recall, metavar="FILE"
    )


def resume_flag(panel: str | None = None) -> Any:
    """Return the `--resume` option of a training run."""
    text = "Go on with an interrupted run, with its flags."
    return option(text, "--resume", panel=panel, is_eager=True, callback=_recall)


def _recall(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    """Callback of `--output` and `--resume`: when both are known, set the run's flags."""
    seen = context.meta.setdefault("fewshot-lite: to resume", {})
    seen[parameter.name] = value
    if seen.get("resume") and seen.get("output") is not None:
        from_run = as_typed(config_of(context), _recorded_settings(Path(seen["output"])))
        from_file = context.meta.get(FROM_FILE, {})
        context.default_map = {**(context.default_map or {}), **from_run, **from_file}
    return value


def _recorded_settings(output: Path) -> Mapping[str, Any]:
    """Return the settings of the run that writes `output`; none if its state is damaged."""
    state = state_path(output)
    for path in (state, previous(state)):
        try:
            settings = read_meta(path).get("config")
        except (FewshotError, OSError):  # reported when the run is resumed
            continue
        if isinstance(settings, dict):
            return settings
    return {}


def check_run(data: Path, output: Path, *, resume: bool, force: bool) -> None:
    """Refuse unusable data and outputs before torch is imported."""
    require_folder(data)
    if not resume:
        check_model_name(output)
        check_output(output, force=force)


def finish(
    result: dict[str, Any], onward: Sequence[object], *, unit: str, done: int, json: bool
) -> None:
    """Print how a training run ended and the next command.

    The exit code is 130 if it was interrupted, and 0 if a cluster took its machine back (SIGTERM).
    """
    from fewshot_lite.cli.render import terminal as render

    if not place().first:
        pass
    elif json:
        render.print_json(result)
    else:
        render.print_run(result, onward, unit=unit, done=done)
    if not (result["finished"] or result["terminated"]):
        sys.exit(INTERRUPTED)  # not typer.Exit: everything has been printed
