"""`--config FILE.toml`, `--preset` and `--show-config`: flags from elsewhere than the command line.

Files and presets fill Click's default map, so a flag on the command line wins over the file, the
file over the preset, and the preset over the default. A file has `tasks-per-step = 16`.
"""

from __future__ import annotations

import difflib
import inspect
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import typer

from fewshot_lite.cli.settings import as_typed
from fewshot_lite.cli.training_runs import FROM_FILE
from fewshot_lite.core.config import flag, settings_of
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import READING, failing_as
from fewshot_lite.training.meta_config import PRESETS, MetaTrainConfig

_FIELDS = {name: (kind, item) for name, kind, item in settings_of(MetaTrainConfig)}
#: Parameters that cannot be set in a file.
_NOT_IN_A_FILE = {"config_file", "show_config"}
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def read_config(context: typer.Context, value: Path | None) -> Path | None:
    """Callback of --config: read a file's flags, refusing unknown ones and wrong types."""
    if value is None:
        return None
    try:
        with failing_as(f"--config {value}", READING, UsageError):
            content = tomllib.loads(value.read_text("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"--config {value}: not TOML ({error}).") from None
    kinds = _kinds(context)
    names = {flag(name)[2:]: name for name in kinds}
    flags = {}
    for key, given in content.items():
        name = names.get(key.replace("_", "-"), "")
        if not name:
            close = difflib.get_close_matches(key, names, n=1)
            hint = f" Did you mean {close[0]}?" if close else " See --help for those there are."
            raise UsageError(f"--config {value}: there is no flag {key!r}.{hint}")
        if expected := _expected_instead(name, kinds[name], given):
            raise UsageError(f"--config {value}: {key} must be {expected}, not {given!r}.")
        flags[name] = given
    flags |= as_typed(MetaTrainConfig, flags)
    context.meta[FROM_FILE] = flags
    context.default_map = {**(context.default_map or {}), **flags}
    return value


def use_preset(context: typer.Context, value: str) -> str:
    """Callback of --preset: set its flags, below those of a file."""
    if value not in PRESETS:
        raise UsageError(f"--preset {value}: must be {' or '.join(PRESETS)}.")
    preset = as_typed(MetaTrainConfig, vars(PRESETS[value]))
    context.default_map = {**preset, **(context.default_map or {})}
    return value


def _kinds(context: typer.Context) -> dict[str, Any]:
    """Return the types of the flags that a file may set."""
    command: Any = context.command.callback
    parameters = inspect.signature(command).parameters
    kinds = {name: get_args(p.annotation)[0] for name, p in parameters.items()}  # of Annotated
    kinds |= {name: kind for name, (kind, _) in _FIELDS.items()}
    return {name: kind for name, kind in kinds.items() if name not in _NOT_IN_A_FILE}


def _expected_instead(name: str, kind: Any, given: Any) -> str:
    """Return the expected kind of value in words if `given` is of another kind, else ""."""
    kinds = [item for item in get_args(kind) or (kind,) if item is not NoneType]  # of X | None
    if get_origin(kind) is tuple:
        right = isinstance(given, list) and all(type(value) is str for value in given)
        return "" if right else "a list of texts"
    if get_origin(kind) is dict:
        right = isinstance(given, dict) and all(map(_is_number, given.values()))
        return "" if right else "a table of numbers, e.g. {head = 2.0}"
    word = _FIELDS[name][1].word if name in _FIELDS else None
    plain = kinds[0] if kinds[0] in _WORDS else str
    right = _is_number(given) if plain is float else type(given) is plain
    if right or (word is not None and given == word):
        return ""
    return _WORDS[plain] + (f" or {word!r}" if word is not None else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_flags(config: MetaTrainConfig) -> dict[str, Any]:
    """Return a configuration as the flags of a file; None is left out."""
    values = {}
    for name, (_, item) in _FIELDS.items():
        value = getattr(config, name)
        value = item.word if value is None else value
        if value is not None:
            values[flag(name)[2:]] = list(value) if isinstance(value, tuple) else value
    return values


def to_toml(flags: Mapping[str, Any]) -> str:
    """Return flags as TOML; values are texts, numbers, booleans, lists or tables of numbers."""
    return "".join(f"{name} = {_toml(value)}\n" for name, value in flags.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        items = (f"{_toml(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    # JSON is TOML but for tables, and for one control character that TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")
