"""How the commands that train begin and end; see `cli.pretrain` and `cli.meta_train`.

`--resume` goes without the flags of the run that is gone on with: its state knows them. They fill
Click's default map, so that a flag on the command line and those of a file still win, and are
refused where the run had others.
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
from fewshot_lite.training.run_files import previous, state_path

#: The entry of Click's `meta` that holds what a file of flags has set.
FROM_FILE = "fewshot-lite: flags of --config"


def output_flag(help: str, panel: str | None = None) -> Any:
    """`--output` of a run, which `--resume` can recall."""
    more: Any = {"is_eager": True, "callback": _recall, "metavar": "FILE"}
    return option(help, "--output", "-o", panel=panel, **more)


def resume_flag(panel: str | None = None) -> Any:
    """`--resume` of such a run."""
    text = "Go on with an interrupted run, with its flags."
    return option(text, "--resume", panel=panel, is_eager=True, callback=_recall)


def _recall(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    """Callback of both: when both are known it sets the flags."""
    mine = context.meta.setdefault("fewshot-lite: to resume", {})
    mine[parameter.name] = value
    if mine.get("resume") and mine.get("output") is not None:
        found = as_typed(config_of(context), _recorded(Path(mine["output"])))
        from_file = context.meta.get(FROM_FILE, {})
        context.default_map = {**(context.default_map or {}), **found, **from_file}
    return value


def _recorded(output: Path) -> Mapping[str, Any]:
    """The settings of the run that writes `output`; none if it has no whole state."""
    state = state_path(output)
    for path in (state, previous(state)):
        try:
            found = read_meta(path).get("config")
        except (FewshotError, OSError):  # what is wrong is said when it is resumed
            continue
        if isinstance(found, dict):
            return found
    return {}


def check_run(data: Path, output: Path, *, resume: bool, force: bool) -> None:
    """Refuse data and an output that no run can have, before torch is imported."""
    require_folder(data)
    if not resume:
        check_output(output, force=force)


def finish(
    result: dict[str, Any], onward: Sequence[object], *, unit: str, done: int, json: bool
) -> None:
    """Say how a training run ended and how to go on.

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
        sys.exit(INTERRUPTED)  # not typer.Exit: what there is to say has been said
