"""`--config FILE.toml`, `--preset` and `--show-config`: where flags come from besides the line.

Both fill Click's default map, so a flag on the command line wins over the file, the file over the
preset, and the preset over the default. In the file a flag goes by its name: `tasks-per-step = 16`.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import typer

from fewshot_lite.core.config import flag
from fewshot_lite.core.errors import UsageError
from fewshot_lite.training.meta_config import PRESETS, MetaTrainConfig

#: What a file may give besides the configuration, and what it is.
_OTHERS: dict[str, Any] = {"data": str, "output": str, "preset": str, "validate": str}
_OTHERS |= {"device": str, "resume": bool, "force": bool, "json": bool}
_OTHERS |= {"workers": int, "cache": str, "tensorboard": str, "plot": str}
#: Flags that the line takes as text, and a file as what they are, with the text that is None.
_NUMBERS_OR_WORDS = {"h": "all", "micro_batch": "auto", "workers": "auto"}


def read_config(context: typer.Context, value: Path | None) -> Path | None:
    """Callback of --config: take in a file's flags.

    Raises:
        UsageError: no such file, no TOML, an unknown flag, or a value of the wrong type.
    """
    if value is None:
        return None
    try:
        content = tomllib.loads(value.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"--config {value}: cannot be read ({error.strerror}).") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--config {value}: not TOML ({error}).") from None
    kinds = get_type_hints(MetaTrainConfig) | _OTHERS
    names = {flag(name)[2:]: name for name in kinds}
    found = {}
    for key, given in content.items():
        name = names.get(key.replace("_", "-"), "")
        if not name:
            flags = list(names)
            close = difflib.get_close_matches(key, flags, n=1)
            hint = f" Did you mean {close[0]}?" if close else " See --help for those there are."
            raise UsageError(f"--config {value}: there is no flag {key!r}.{hint}")
        try:
            found[name] = _as_on_the_line(name, kinds[name], given)
        except TypeError as error:
            raise UsageError(f"--config {value}: {key} must be {error}, not {given!r}.") from None
    context.default_map = {**(context.default_map or {}), **found}
    return value


def use_preset(context: typer.Context, value: str) -> str:
    """Callback of --preset: its flags, below those of a file.

    Raises:
        UsageError: there is none of this name.
    """
    if value not in PRESETS:
        raise UsageError(f"--preset {value}: must be {' or '.join(PRESETS)}.")
    preset = {name: _on_the_line(item) for name, item in _given(PRESETS[value]).items()}
    context.default_map = {**preset, **(context.default_map or {})}
    return value


def _as_on_the_line(name: str, kind: Any, given: Any) -> Any:
    """A value of a file as Click takes it from its default map.

    Raises:
        TypeError: it is not of the flag's kind; the message says what would be.
    """
    if name in _NUMBERS_OR_WORDS:
        word = _NUMBERS_OR_WORDS[name]
        if given != word and type(given) is not int:
            raise TypeError(f"a whole number or {word!r}")
        return str(given)
    kinds = [item for item in get_args(kind) or (kind,) if item is not NoneType]  # of X | None
    origin = get_origin(kind)
    if origin is tuple:
        item = get_args(kind)[0]
        right = isinstance(given, list) and all(type(value) is item for value in given)
        words = "a list of whole numbers" if item is int else "a list of texts"
    elif origin is dict:
        right = isinstance(given, dict) and all(_is_number(item) for item in given.values())
        words = "a table of numbers, e.g. {head = 2.0}"
    elif kinds == [bool]:
        right, words = isinstance(given, bool), "true or false"
    elif kinds == [int]:
        right, words = type(given) is int, "a whole number"
    elif kinds == [float]:
        right, words = _is_number(given), "a number"
    else:
        right, words = isinstance(given, str), "a text"
    if not right:
        raise TypeError(words)
    return _on_the_line(given)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _on_the_line(value: Any) -> Any:
    """A TOML value as the texts of an option, where the line has texts."""
    if isinstance(value, dict):
        return [f"{key}={item}" for key, item in value.items()]
    if isinstance(value, list) and value and all(type(item) is int for item in value):
        return ",".join(map(str, value))
    return value


def as_flags(config: MetaTrainConfig) -> dict[str, Any]:
    """A configuration by its flags, as a file has them; what is None is left out."""
    return {flag(name)[2:]: value for name, value in _given(config).items()}


def _given(config: MetaTrainConfig) -> dict[str, Any]:
    """The fields that are not None, as a file has them."""
    values = asdict(config)
    for name in _NUMBERS_OR_WORDS.keys() & values.keys():
        values[name] = _NUMBERS_OR_WORDS[name] if values[name] is None else values[name]
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None
    }


def to_toml(flags: Mapping[str, Any]) -> str:
    """TOML of flags: texts, numbers, true and false, lists of these, and tables of numbers."""
    return "".join(f"{name} = {_toml(value)}\n" for name, value in flags.items())


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        items = (f"{_toml(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    escaped = "".join(f"\\u{ord(c):04x}" if c < " " or c in '"\\\x7f' else c for c in str(value))
    return f'"{escaped}"'
