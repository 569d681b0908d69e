"""Configurations whose fields are also flags: one field says its help, its default and its limits.

A configuration is a frozen dataclass of `setting`s; its `PANELS` are headings of the flags, each by
the first field under it. `check_settings` refuses values outside of
their limits, by the name of the flag; `cli.settings` makes the flags. Torch is not imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from fewshot_lite.core.errors import InputError, UsageError

Precision = Literal["auto", "float32", "bfloat16"]
Sampling = Literal["uniform", "informed", "balanced"]
Gradient = Literal["lite", "full", "small-task"]
Metric = Literal["euclidean", "cosine"]
Schedule = Literal["cosine", "constant"]
OptimizerName = Literal["adam", "adamw"]
#: Which norm layers FiLM modulates; see `networks.film.modulated_layers`.
FilmLayers = Literal["all", "depthwise"]
#: Settings of learners that adapt by gradient; see `maml.gradient_learner` and `maml.imaml`.
InnerHead = Literal["means", "learned"]
NormStatistics = Literal["running", "support"]
InnerSolver = Literal["gd", "hessian-free"]
#: The matrix of second derivatives that iMAML multiplies with; see `maml.objective`.
Curvature = Literal["hessian", "gauss-newton"]
#: The head of a personal model; see `heads.choice`.
HeadName = Literal[
    "default", "auto", "ridge", "mahalanobis", "mahalanobis-root", "cosine", "euclidean"
]
#: Whether `adapt` takes gradient steps from the one-pass solution; see `personal.refining`.
Refine = Literal["off", "auto", "on"]

#: More would take longer than anybody waits.
MOST_INNER_STEPS = 10_000
#: No count, rate or period is larger; torch could not take all that are.
HUGE = 1e9


def check_word(flag: str, word: object, words: object) -> None:
    """Refuse what is none of a `Literal`'s words; the command line has done so before.

    Raises:
        InputError: it is none.
    """
    if word not in get_args(words):
        known = ", ".join(map(repr, get_args(words)))
        raise InputError(f"{flag}: {word!r} is none of {known}.")


@dataclass(frozen=True)
class Limits:
    """An interval of numbers."""

    low: float = -math.inf
    high: float = HUGE
    open_low: bool = False
    """Whether `low` itself is outside."""
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.open_low else self.low <= value
        return above and (value < self.high if self.open_high else value <= self.high)

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
    """A field of a configuration as a flag."""

    help: str
    limits: Limits | None = None
    panel: str | None = None
    """Heading of the flags that it is listed with: that of the last field in the configuration's
    `PANELS`, if it has such."""
    metavar: str | None = None
    shown: str | None = None
    """The default as help shows it, where that is None."""
    word: str | None = None
    """The word that is typed for None, where None is not the default."""
    parse: Callable[[str], Any] | None = None
    """Makes the value of what is typed, where its type alone does not tell how."""
    only: tuple[str, tuple[str, ...]] | None = None
    """Another field and the values of it with which this one may be given."""


def setting(default: Any, help: str, limits: Limits | None = None, **more: Any) -> Any:
    """A field of a configuration; the arguments are those of `Setting`."""
    metadata = {"setting": Setting(help, limits, **more)}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def same_setting(config: type[Any], name: str) -> Any:
    """A field of a configuration that is as another one's."""
    found = config.__dataclass_fields__[name]
    return field(default=found.default, metadata=found.metadata)


def settings_of(config: Any) -> Iterator[tuple[str, Any, Setting]]:
    """Name, type and `Setting` of each field of a configuration, or of its class."""
    hints = get_type_hints(config if isinstance(config, type) else type(config))
    panels, panel = getattr(config, "PANELS", {}), None
    for item in fields(config):
        panel = panels.get(item.name, panel)
        yield item.name, hints[item.name], replace(item.metadata["setting"], panel=panel)


def check_settings(config: Any) -> None:
    """Refuse a configuration of which a field is outside of what it may be.

    Raises:
        UsageError: a number outside of its limits, a word that is no choice, or a field that other
            settings have no use for.
    """
    for name, kind, item in settings_of(config):
        value = getattr(config, name)
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
    """Refuse a number outside of its limits; NaN is outside of all.

    Args:
        label: its flag, or its flag and what it is given to: "--lr-factor head=".
    """
    if value not in limits:
        separator = "" if label.endswith("=") else " "
        raise UsageError(f"{label}{separator}{value}: must be {limits}.")


def check_seed(seed: int) -> None:
    """Refuse seeds that torch cannot take."""
    if abs(seed) >= 2**63:
        raise UsageError(f"--seed {seed}: must fit in 64 bits.")


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        yield from ((f"{flag(name)} {key}=", number) for key, number in value.items())
    elif isinstance(value, tuple):
        yield from ((flag(name), number) for number in value)
    else:
        yield flag(name), value


def _check_use(config: Any, name: str, other: str, takers: tuple[str, ...]) -> None:
    """Refuse a field that has no part where another is as it is."""
    value, given = getattr(config, name), getattr(config, other)
    if given not in takers:
        raise UsageError(
            f"{flag(name)}{'' if value is True else f' {value}'}: must be left out with "
            f"{flag(other)} {given}; it belongs to {' and '.join(takers)}."
        )


def choices_of(kind: Any) -> tuple[str, ...]:
    """The words of a type that is a choice of some, or of some and None; else none."""
    for part in (kind, *get_args(kind)):
        if get_origin(part) is Literal:
            return get_args(part)
    return ()


def flag(name: str) -> str:
    """The flag of a field of a configuration."""
    return "--lambda" if name == "lam" else f"--{name.replace('_', '-')}"
