"""Configurations whose fields are also command-line flags: a field holds help, default and limits.

A configuration is a frozen dataclass of `setting`s; its `PANELS` map the first field of each help
panel to the panel's heading. `check_settings` rejects values out of range and names the flag;
`cli.settings` makes the flags. This module does not import torch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from fewshot_lite.core.errors import InputError, UsageError

Precision = Literal["auto", "float32", "bfloat16"]
Sampling = Literal["uniform", "informed", "balanced"]
Gradient = Literal["lite", "full", "small-task"]
Metric = Literal["euclidean", "cosine"]
Schedule = Literal["cosine", "constant"]
OptimizerName = Literal["adam", "adamw"]
#: The norm layers that FiLM modulates; see `networks.film.modulated_layers`.
FilmLayers = Literal["all", "depthwise"]
#: Settings of gradient learners; see `maml.gradient_learner` and `maml.imaml`.
InnerHead = Literal["means", "learned"]
NormStatistics = Literal["running", "support"]
InnerSolver = Literal["gd", "hessian-free"]
#: The second-derivative matrix in iMAML's linear system; see `maml.objective`.
Curvature = Literal["hessian", "gauss-newton"]
#: The head of a personal model; see `heads.choice`.
HeadName = Literal[
    "default", "auto", "ridge", "mahalanobis", "mahalanobis-root", "cosine", "euclidean"
]
#: Whether `adapt` takes gradient steps from the one-pass solution; see `personal.refining`.
Refine = Literal["off", "auto", "on"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

MOST_INNER_STEPS = 10_000
#: Upper limit of counts, rates and periods.
HUGE = 1e9


def check_word(flag: str, word: object, words: object) -> None:
    """Raise InputError unless `word` is one of the `Literal` type `words`."""
    if word not in get_args(words):
        known = ", ".join(map(repr, get_args(words)))
        raise InputError(f"{flag}: {word!r} is none of {known}.")


def check_switch(name: str, value: object, *others: str | None) -> None:
    """Raise InputError unless a value is a bool, Python's or NumPy's, or one of `others`.

    Any other would count as true or false without being either: "no" as true.
    """
    kind = type(value)
    numpy_bool = kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")
    if kind is bool or numpy_bool or (isinstance(value, str | None) and value in others):
        return
    *first, last = map(repr, (True, False, *others))
    shown = " ".join(repr(value).split())[:60]
    raise InputError(f"{name}: {shown} is not {', '.join(first)} or {last}.")


def switches_checked(call: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a call: `check_switch` its keyword arguments of type `bool` or `bool | None`."""
    types = {"bool": (), "bool | None": (None,)}
    named = {name: call.__annotations__[name] for name in call.__kwdefaults__ or ()}
    switches = {name: types[kind] for name, kind in named.items() if kind in types}

    @functools.wraps(call)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for name in switches.keys() & kwargs.keys():
            check_switch(name, kwargs[name], *switches[name])
        return call(*args, **kwargs)

    return checked


@dataclass(frozen=True)
class Limits:
    """An interval of numbers; `open_low` and `open_high` exclude the ends."""

    low: float = -math.inf
    high: float = HUGE
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: Any) -> bool:
        is_number = isinstance(value, Real)
        if not is_number:
            return False
        above = self.low < value if self.open_low else self.low <= value
        return bool(above and (value < self.high if self.open_high else value <= self.high))

    def __str__(self) -> str:
        low = f"{'more than' if self.open_low else 'at least'} {self.low:g}"
        high = "a billion" if self.high == HUGE else f"{self.high:g}"
        return f"{low} and {'less than' if self.open_high else 'at most'} {high}"


POSITIVE = Limits(0, open_low=True)
NOT_NEGATIVE = Limits(0)
COUNT = Limits(1)
SHARE = Limits(0, 1)
IMAGE_SIZE = Limits(16, 1024)
WORKERS = Limits(0, 1024)


@dataclass(frozen=True)
class Setting:
    """How a configuration field appears on the command line."""

    help: str
    limits: Limits | None = None
    panel: str | None = None
    """Heading of its help panel; `settings_of` fills it in from `PANELS`."""
    metavar: str | None = None
    shown: str | None = None
    """How help shows a default of None."""
    word: str | None = None
    """The word that stands for None on the command line, where None is not the default."""
    parse: Callable[[str], Any] | None = None
    """Converts the argument, where the field's type alone does not determine how."""
    only: tuple[str, tuple[str, ...]] | None = None
    """Another field, and the values of it with which this field may be set."""


def setting(default: Any, help: str, limits: Limits | None = None, **more: Any) -> Any:
    """Declare a configuration field; `more` are the other fields of `Setting`."""
    metadata = {"setting": Setting(help, limits, **more)}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def same_setting(config: type[Any], name: str) -> Any:
    """Declare a field like the field `name` of another configuration."""
    original = config.__dataclass_fields__[name]
    return field(default=original.default, metadata=original.metadata)


def settings_of(config: Any) -> Iterator[tuple[str, Any, Setting]]:
    """Yield name, type and `Setting` of each field of a configuration or configuration class."""
    hints = get_type_hints(config if isinstance(config, type) else type(config))
    panels, panel = getattr(config, "PANELS", {}), None
    for item in fields(config):
        panel = panels.get(item.name, panel)
        yield item.name, hints[item.name], replace(item.metadata["setting"], panel=panel)


def check_settings(config: Any) -> None:
    """Check each field of a configuration.

    Raises:
        UsageError: a number is out of range, a word is not among its choices, a switch is no bool,
            or a field is set that does not apply to another setting (`Setting.only`).
    """
    for name, kind, item in settings_of(config):
        value = getattr(config, name)
        if kind is bool or kind == bool | None:
            check_switch(name, value, *(() if kind is bool else (None,)))
            object.__setattr__(config, name, value if value is None else bool(value))
        if value is None:
            continue
        choices = choices_of(kind)
        if choices and value not in choices:
            raise UsageError(f"{flag(name)} {value}: must be {' or '.join(choices)}.")
        if item.limits is not None:
            for label, number in _numbers(name, value):
                check_number(label, number, item.limits)
        if item.only is not None and value != getattr(type(config), name):
            _check_use(config, name, *item.only)


def check_number(label: str, value: float, limits: Limits) -> None:
    """Raise UsageError for a number outside its limits, NaN included.

    Args:
        label: the flag, or the flag with a key: "--lr-factor head=".
    """
    if value not in limits:
        separator = "" if label.endswith("=") else " "
        shown = value if isinstance(value, Real) else repr(value)
        raise UsageError(f"{label}{separator}{shown}: must be {limits}.")


def check_whole(label: str, value: object, limits: Limits) -> None:
    """Raise UsageError for what is no whole number, or one outside of its limits."""
    if not isinstance(value, Integral):
        raise UsageError(f"{label} {value!r}: must be a whole number.")
    check_number(label, int(value), limits)


def check_seed(seed: int) -> None:
    """Raise UsageError for seeds that torch does not accept."""
    if abs(seed) >= 2**63:
        raise UsageError(f"--seed {seed}: must fit in 64 bits.")


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        yield from ((f"{flag(name)} {key}=", number) for key, number in value.items())
    elif isinstance(value, tuple):
        yield from ((flag(name), number) for number in value)
    else:
        yield flag(name), value


def _check_use(config: Any, name: str, other: str, allowed: tuple[str, ...]) -> None:
    """Raise UsageError if the field `name` is set while `other` has no value that allows it."""
    value, other_value = getattr(config, name), getattr(config, other)
    if other_value not in allowed:
        raise UsageError(
            f"{flag(name)}{'' if value is True else f' {value}'}: must be left out with "
            f"{flag(other)} {other_value}; it belongs to {' and '.join(allowed)}."
        )


def choices_of(kind: Any) -> tuple[str, ...]:
    """Return the words of a `Literal` type or an optional one, else ()."""
    for part in (kind, *get_args(kind)):
        if get_origin(part) is Literal:
            return get_args(part)
    return ()


def flag(name: str) -> str:
    """Return the command-line flag of a configuration field."""
    return "--lambda" if name == "lam" else f"--{name.replace('_', '-')}"
