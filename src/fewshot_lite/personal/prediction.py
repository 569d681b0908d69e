"""The answer for one photo; this does not import torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.text import as_disks_see

#: The label of a photo of none of the classes.
UNKNOWN = "unknown"
#: The longest name of a class in bytes, as file systems take it for a folder.
_LONGEST_NAME = 255


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo, for a video, or for a moment of it."""

    path: Path | None
    """The photo's file; None if it was given in another form."""
    labels: tuple[tuple[str, float], ...]
    """Class names with probabilities, the likeliest first; empty if the photo was not read. An
    unknown photo has those it would have if it had to be one of the classes."""
    problem: str | None = None
    """Why the photo was not read."""
    unknown: bool = False
    """Whether it shows none of the classes: its novelty score is above the threshold."""
    strangeness: float | None = None
    """Its novelty score (`personal.novelty`); None if the photo was not read."""
    adapted_to: bool = False
    """Whether the model was adapted to this photo, or to a frame of this video."""
    frames: int | None = None
    """The number of frames that were classified, for a video."""
    seconds: float | None = None
    """The time of a moment in a video."""
    time_line: tuple[Prediction, ...] = ()
    """The moments of a video, if they were asked for."""

    @property
    def label(self) -> str | None:
        """The likeliest class, or `UNKNOWN`; None if the photo was not read."""
        if self.unknown:
            return UNKNOWN
        return self.labels[0][0] if self.labels else None

    @property
    def probability(self) -> float | None:
        """The probability of the likeliest class; None if unknown."""
        return self.labels[0][1] if self.labels and not self.unknown else None


def check_reject(share: float) -> None:
    """Raise a UsageError unless a share of one's own photos is from 0 to below 1."""
    if not isinstance(share, Real) or not 0 <= share < 1:
        shown = f"{share:g}" if isinstance(share, Real) else repr(share)
        raise UsageError(
            f"--reject {shown}: give the share of your own photos that may be called unknown, "
            "from 0 to below 1, e.g. 0.05."
        )


def check_class_names(names: Iterable[str], where: str = "") -> None:
    """Raise a UsageError for a name that no class of a personal model can have.

    Args:
        names: those of the classes.
        where: the folder or argument that has them, for the message.
    """
    start = where and f"{where}: "
    for name in names:
        try:
            length = len(name.encode())
        except UnicodeEncodeError:
            raise UsageError(
                f"{start}{name!r}: not valid Unicode. Give the class another name."
            ) from None
        if not as_disks_see(name):
            raise UsageError(f"{start}a class without a name. Give it one.")
        if name != name.strip():
            raise UsageError(
                f"{start}{name!r}: spaces around the name of a class. Name it {name.strip()!r}."
            )
        if length > _LONGEST_NAME:
            raise UsageError(
                f"{start}{name[:40]!r}…: {length} bytes are too long for the name of a class. Give "
                f"it one of {_LONGEST_NAME} at most, as file systems take it."
            )
        if name.lower() == UNKNOWN:
            raise UsageError(
                f"{start}{name!r}: `classify` calls photos of none of the classes so; no class can "
                "have this name. Rename it, e.g. to 'other'."
            )
