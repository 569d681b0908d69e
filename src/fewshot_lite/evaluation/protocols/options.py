"""Settings of a protocol, checked without importing torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from fewshot_lite.core.config import COUNT, check_seed, check_settings, setting
from fewshot_lite.core.errors import UsageError

ProtocolKind = Literal["auto", "folder", "meta-dataset", "vtab", "orbit"]
Split = Literal["train", "validation", "test"]
OrbitYear = Literal["2022", "2021"]


@dataclass(frozen=True)
class Span:
    """A number, or a range from which one is drawn for each task."""

    low: int
    high: int

    @classmethod
    def parse(cls, text: str) -> Span:
        """Parse `5` or `5-20`; raise ValueError for anything else."""
        low, dash, high = text.partition("-")
        return cls(int(low), int(high if dash else low))

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}–{self.high}"


#: The defaults of tasks from class folders.
WAYS, SHOTS, QUERIES = (Span(5, 5),), (Span(1, 1), Span(5, 5)), 10


def parse_spans(flag: str, text: str, *, least: int) -> tuple[Span, ...]:
    """Parse `5`, `1,5`, `5-20` or `1,5-10` into ranges.

    Raises:
        UsageError: anything else, or a number below `least`.
    """
    try:
        spans = tuple(map(Span.parse, text.split(",")))
    except ValueError:
        raise UsageError(
            f"{flag} {text}: give a number, several (1,5) or a range to draw from (1-10)."
        ) from None
    for span in spans:
        if span.low < least:
            raise UsageError(f"{flag} {text}: must be at least {least}.")
        if span.high < span.low:
            raise UsageError(f"{flag} {text}: the range {span} ends before it begins.")
    return tuple(dict.fromkeys(spans))


_ways = partial(parse_spans, "--ways", least=2)
_shots = partial(parse_spans, "--shots", least=1)

#: The heading of these flags in help, and how ways and shots are typed.
TASKS, _SPANS = "Tasks", "N|N,N|N-N"


@dataclass(frozen=True)
class ProtocolOptions:
    """The settings of a protocol, which are flags of `evaluate`; None is the protocol's default.

    Published protocols have fixed rules: settings against them are refused (`refuse_given`).
    """

    PANELS: ClassVar[Mapping[str, str]] = {"ways": TASKS}

    ways: tuple[Span, ...] | None = setting(
        None,
        "Classes of a task; a range is drawn from. For class folders.",
        metavar=_SPANS,
        shown=",".join(map(str, WAYS)),
        parse=_ways,
    )
    shots: tuple[Span, ...] | None = setting(
        None,
        "Support images of each class; a range is drawn from. For class folders.",
        metavar=_SPANS,
        shown=",".join(map(str, SHOTS)),
        parse=_shots,
    )
    queries: int | None = setting(
        None, "Query images of each class. For class folders.", COUNT, shown=str(QUERIES)
    )
    tracks: tuple[str, ...] = setting(
        (),
        "A data set whose files are named TRACK_FRAME: a track is never on both sides of a task; "
        "can be repeated.",
        metavar="NAME",
    )
    tasks: int | None = setting(
        None, "Tasks of each data set, way and shot.", COUNT, shown="600, ORBIT as published"
    )
    seed: int = setting(0, "Seed that the tasks are drawn with.")
    split: Split | None = setting(None, "The split of Meta-Dataset or ORBIT.", shown="test")
    orbit: OrbitYear | None = setting(None, "Version of ORBIT's protocol.", shown="2022")
    all_frames: bool = setting(
        False, "Evaluate ORBIT's query frames without the object too; needs no annotations."
    )

    @classmethod
    def parse(
        cls, ways: str | None = None, shots: str | None = None, **others: Any
    ) -> ProtocolOptions:
        """Make options with ways and shots as typed on the command line: `shots="1,5"`."""
        return cls(
            ways=None if ways is None else _ways(str(ways)),
            shots=None if shots is None else _shots(str(shots)),
            **others,
        )

    def refuse_given(self, what: str, *names: str) -> None:
        """Raise UsageError, which says `what`, if one of the named settings was given."""
        for name in names:
            if getattr(self, name) not in (None, False, ()):
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag}: {what}. Leave the flag out.")

    def check(self) -> None:
        """Raise UsageError for values that no comparison can have."""
        check_settings(self)
        check_seed(self.seed)


def check_pair(support: Path | None, query: Path | None) -> bool:
    """Return whether support and query folders are given.

    Raises:
        UsageError: one without the other, or the same folder twice.
    """
    if (support is None) != (query is None):
        given, missing = ("--support", "--query") if query is None else ("--query", "--support")
        raise UsageError(f"{given}: needs {missing} too, the folder of the other photos.")
    if support is None or query is None:
        return False
    if os.path.realpath(support) == os.path.realpath(query):
        raise UsageError(f"--support and --query: both are {support}. Give it as DATA instead.")
    return True
