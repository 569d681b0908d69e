"""The fields of a configuration as options of a command: one field, one flag.

    @with_settings(MetaTrainConfig)
    def meta_train(config: MetaTrainConfig, data: ...) -> None: ...

is a command that has an option for each field of `MetaTrainConfig` in the place of `config`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_origin

import typer

from fewshot_lite.core.config import Setting, flag, settings_of
from fewshot_lite.core.errors import UsageError

Config = TypeVar("Config")


def with_settings(config: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that replaces the parameter `config` of a command by options."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        others = [p for name, p in signature.parameters.items() if name != "config"]
        options = _options(config)
        parameters = [*options, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in others)]

        def run(**values: Any) -> None:
            mine = {option.name: values.pop(option.name) for option in options}
            command(config=read_settings(config, mine), **values)

        functools.update_wrapper(run, command)
        del run.__wrapped__  # type: ignore[attr-defined]  # Typer would look at its parameters
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def read_settings(config: type[Config], values: dict[str, Any]) -> Config:
    """A configuration from what the options of its fields were given.

    Raises:
        UsageError: a text that is no value of its field.
    """
    kinds = {name: (kind, item) for name, kind, item in settings_of(config)}
    return config(**{name: _value(name, *kinds[name], given) for name, given in values.items()})


def _options(config: type[Any]) -> list[inspect.Parameter]:
    """The parameters of a command that Typer makes options of."""
    defaults, found = config(), []
    for name, kind, item in settings_of(config):
        default = getattr(defaults, name)
        names = [flag(name)]
        if (kind is bool and default is True) or kind == bool | None:
            names = [f"{flag(name)}/--no-{flag(name)[2:]}"]
        repeated = get_origin(kind) is dict or kind == tuple[str, ...]
        typed: Any = kind
        if repeated:
            typed, default = list[str] | None, None
        elif item.parse is not None:
            typed, default = str | None, None
        elif item.word is not None or get_origin(kind) is tuple:
            typed, default = str, _text(default)
        metavar = f"N|{item.word}" if item.word is not None else item.metavar
        option = typer.Option(
            *names,
            help=item.help,
            rich_help_panel=item.panel,
            metavar=metavar,
            show_default=item.shown or True,
        )
        found.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[typed, option],
            )
        )
    return found


def _text(value: Any) -> str:
    """How a value is typed."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _value(name: str, kind: Any, item: Setting, given: Any) -> Any:
    """The given value in the field's type."""
    if item.parse is not None:
        return None if given is None else item.parse(given)
    if get_origin(kind) is dict:
        return dict(_factor(name, text) for text in given or ())
    if kind == tuple[str, ...]:
        return tuple(given or ())
    if get_origin(kind) is tuple:
        return tuple(_number(name, part, "whole numbers, e.g. 1,2") for part in given.split(","))
    if item.word is not None:
        return None if given == item.word else _number(name, given, f"a number or '{item.word}'")
    return given


def _number(name: str, text: str, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{flag(name)} {text}: give {what}.") from None


def _factor(name: str, text: str) -> tuple[str, float]:
    key, _, factor = text.partition("=")
    try:
        return key, float(factor)
    except ValueError:
        raise UsageError(f"{flag(name)} {text}: give GROUP=FACTOR, e.g. head=2.") from None
