"""How the commands that train begin and end; see `cli.pretrain` and `cli.meta_train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fewshot_lite.cli.options import INTERRUPTED, option
from fewshot_lite.cli.recalling import recall
from fewshot_lite.core.files import check_output
from fewshot_lite.core.ranks import place
from fewshot_lite.images.folders import require_folder


def output_flag(config: type[Any], help: str, panel: str | None = None) -> Any:
    """`--output` of runs of a configuration, which `--resume` can recall."""
    return option(help, "--output", "-o", panel=panel, is_eager=True, callback=recall(config))


def resume_flag(config: type[Any], panel: str | None = None) -> Any:
    """`--resume` of such runs."""
    text = "Go on with an interrupted run, with its flags."
    return option(text, "--resume", panel=panel, is_eager=True, callback=recall(config))


def check_run(data: Path, output: Path, *, resume: bool, force: bool) -> None:
    """Refuse data and an output that no run can have, before torch is imported."""
    require_folder(data)
    if not resume:
        check_output(output, force=force)


def finish(result: dict[str, Any], onward: str, *, unit: str, done: int, json: bool) -> None:
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
