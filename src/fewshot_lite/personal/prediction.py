"""The answer for one photo, whichever engine gave it; importing it does not import torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fewshot_lite.core.errors import UsageError

#: The label of a photo of none of the classes.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo, for a video, or for a moment of it."""

    path: Path | None
    """Its file; None of a photo that was handed in otherwise."""
    labels: tuple[tuple[str, float], ...]
    """Class names with probabilities, the likeliest first; empty if the photo was not read.

    Also of an unknown photo: what it would be if it had to be one of the classes."""
    problem: str | None = None
    """Why the photo was not read."""
    unknown: bool = False
    """Whether it shows none of the classes, by the threshold that was asked for."""
    strangeness: float | None = None
    """How unlike all classes it is; None if the photo was not read."""
    adapted_to: bool = False
    """Whether the model was adapted to this photo, or a frame of this video: no test of it."""
    frames: int | None = None
    """Of a video, the frames that were looked at."""
    seconds: float | None = None
    """Of a moment in a video, when it is."""
    time_line: tuple[Prediction, ...] = ()
    """Of a video, its moments, if they were asked for."""

    @property
    def label(self) -> str | None:
        """The likeliest class, or `UNKNOWN`; None if the photo was not read."""
        if self.unknown:
            return UNKNOWN
        return self.labels[0][0] if self.labels else None

    @property
    def probability(self) -> float | None:
        """The likeliest class's; None if unknown: probabilities are among the classes alone."""
        return self.labels[0][1] if self.labels and not self.unknown else None


def check_reject(share: float) -> None:
    """Refuse what is no share of one's own photos that may be called unknown.

    Raises:
        UsageError: it is not from 0 to below 1.
    """
    if not 0 <= share < 1:
        raise UsageError(
            f"--reject {share:g}: give the share of your own photos that may be called unknown, "
            "from 0 to below 1, e.g. 0.05."
        )


def check_not_unknown(names: Iterable[str]) -> None:
    """Refuse a class with the name that novel photos are given.

    Raises:
        UsageError: there is one.
    """
    for name in names:
        if name.strip().lower() == UNKNOWN:
            raise UsageError(
                f"{name!r}: `classify` calls photos of none of the classes so; no class can have "
                "this name. Rename it, e.g. to 'other'."
            )
