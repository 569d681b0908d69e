"""The fields of a configuration as options of a command: one field, one flag.

    @with_settings(MetaTrainConfig)
    def meta_train(config: MetaTrainConfig, data: ...) -> None: ...

is a command with an option for each field of `MetaTrainConfig` in the place of `config`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin

import typer

from fewshot_lite.cli.options import option
from fewshot_lite.core.config import Setting, choices_of, flag, settings_of
from fewshot_lite.core.errors import UsageError


def with_settings(config: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that replaces the parameter `config` of a command by options."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        others = [p for name, p in signature.parameters.items() if name != "config"]
        fields = {name: (kind, item) for name, kind, item in settings_of(config)}
        parameters = [*_options(config), *(p.replace(kind=p.KEYWORD_ONLY) for p in others)]

        def run(**values: Any) -> None:
            chosen = {
                name: _parse(name, *field, values.pop(name)) for name, field in fields.items()
            }
            command(config=config(**chosen), **values)

        functools.update_wrapper(run, command)
        del run.__wrapped__  # type: ignore[attr-defined]  # Typer would read its parameters
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.config = config  # type: ignore[attr-defined]
        return run

    return decorate


def config_of(context: typer.Context) -> type[Any]:
    """Return the configuration whose fields are options of the running command."""
    config: type[Any] = vars(context.command.callback)["config"]
    return config


def as_typed(config: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a configuration's fields as they are typed on the command line.

    Args:
        config: the configuration; other values are left out.
        values: by field, in its type or as TOML or JSON has it.
    """
    typed: dict[str, Any] = {}
    for name, _, item in settings_of(config):
        value = values.get(name)
        if isinstance(value, dict):
            typed[name] = [f"{key}={factor}" for key, factor in value.items()]
        elif item.word is not None and name in values:
            typed[name] = item.word if value is None else str(value)
        elif value is not None:
            typed[name] = value
    return typed


def _options(config: type[Any]) -> list[inspect.Parameter]:
    """Return the parameters that Typer makes options of."""
    defaults, parameters = config(), []
    for name, kind, item in settings_of(config):
        default = getattr(defaults, name)
        names = [flag(name)]
        if (kind is bool and default is True) or kind == bool | None:
            names = [f"{flag(name)}/--no-{flag(name)[2:]}"]
        typed: Any = kind
        if get_origin(kind) is dict or kind == tuple[str, ...]:
            typed, default = list[str] | None, None
        elif item.parse is not None:
            typed, default = str | None, None
        elif item.word is not None:
            typed, default = str, str(default)
        flag_option = option(
            item.help,
            *names,
            panel=item.panel,
            shown=item.shown or True,
            metavar=_metavar(kind, item),
        )
        annotation = Annotated[typed, flag_option]
        only = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(name, only, default=default, annotation=annotation))
    return parameters


def _metavar(kind: Any, item: Setting) -> str | None:
    """Return the placeholder of a value in help; None for flags without a value."""
    if item.metavar is not None:
        return item.metavar
    if item.word is not None:
        return f"N|{item.word}"
    if choices := choices_of(kind):
        return "|".join(choices)
    types = {kind, *get_args(kind)}
    return "X" if float in types else "N" if int in types else None


def _parse(name: str, kind: Any, item: Setting, typed: Any) -> Any:
    """Convert the value of an option to the field's type; raise UsageError if it has another."""
    if item.parse is not None:
        return None if typed is None else item.parse(typed)
    if get_origin(kind) is dict:
        return dict(_factor(name, text) for text in typed or ())
    if kind == tuple[str, ...]:
        return tuple(typed or ())
    if item.word is None:
        return typed
    try:
        return None if typed == item.word else int(typed)
    except ValueError:
        raise UsageError(f"{flag(name)} {typed}: give a number or '{item.word}'.") from None


def _factor(name: str, text: str) -> tuple[str, float]:
    key, _, factor = text.partition("=")
    try:
        return key, float(factor)
    except ValueError:
        raise UsageError(f"{flag(name)} {text}: give GROUP=FACTOR, e.g. head=2.") from None
