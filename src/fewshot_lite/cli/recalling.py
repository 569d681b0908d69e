"""`--resume` without the flags of the run that is gone on with: its state knows them.

They fill Click's default map, so that a flag on the command line and those of a file still win, and
are refused where the run had others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from fewshot_lite.core.config import settings_of
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.tensor_files import read_meta
from fewshot_lite.training.run_files import previous, state_path

#: The entry of Click's `meta` that holds what a file of flags has set.
FROM_FILE = "fewshot-lite: flags of --config"


def recall(config: type[Any]) -> Callable[[typer.Context, typer.CallbackParam, Any], Any]:
    """A callback of both `--output` and `--resume`, eager: when both are known it sets the flags.

    Args:
        config: the configuration that the run was made by.
    """

    def note(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
        mine = context.meta.setdefault("fewshot-lite: to resume", {})
        mine[parameter.name] = value
        if mine.get("resume") and mine.get("output") is not None:
            found = on_the_line(config, _recorded(Path(mine["output"])))
            from_file = context.meta.get(FROM_FILE, {})
            context.default_map = {**(context.default_map or {}), **found, **from_file}
        return value

    return note


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


def on_the_line(config: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a state's JSON has them, as the command line would have typed them."""
    found: dict[str, Any] = {}
    for name, _, item in settings_of(config):
        value = values.get(name, None)
        value = item.word if value is None else value
        if value is None:
            continue
        if isinstance(value, dict):
            found[name] = [f"{key}={factor}" for key, factor in value.items()]
        elif isinstance(value, list) and value and all(type(part) is int for part in value):
            found[name] = ",".join(map(str, value))
        else:
            found[name] = str(value) if item.word is not None else value
    return found
