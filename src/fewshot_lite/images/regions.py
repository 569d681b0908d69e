"""Regions of photos, given by a box around an object."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fewshot_lite.core.errors import InputError

#: Left, top, width and height in pixels of the upright photo.
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Region:
    """A box of a photo, read as the smallest square around it.

    A square that reaches beyond the photo is moved into it, and cropped if it is larger.
    """

    photo: Any
    """A photo in any form (`images.inputs.Photo`); for reading, a source that is not a region."""
    box: Box
    """Converted by `as_box`."""

    def __post_init__(self) -> None:
        """Check the box.

        Raises:
            InputError: it is none.
        """
        object.__setattr__(self, "box", as_box(self.box))

    def __str__(self) -> str:
        return f"{self.photo}, box {','.join(f'{value:g}' for value in self.box)}"


def as_box(values: Sequence[object], name: str = "box") -> Box:
    """Convert x, y, width and height, numbers or their text, to a box.

    Raises:
        InputError: they are not a box; the message begins with `name`.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InputError(f"{name}: {values!r} is no box. Give four numbers (x, y, w, h) in pixels.")
    values = tuple(values)
    try:
        x, y, width, height = (float(str(value)) for value in values)
    except ValueError:
        x = y = width = height = math.nan
    if not (math.isfinite(x + y) and 0 < width < math.inf and 0 < height < math.inf):
        text = ",".join(map(str, values))
        raise InputError(f"{name} {text}: give x,y,w,h in pixels, e.g. {name} 120,80,400,300.")
    return x, y, width, height


def square_around(box: Box, width: int, height: int) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of the square to read; None if the box is outside."""
    left, right = max(0.0, box[0]), min(float(width), box[0] + box[2])
    top, bottom = max(0.0, box[1]), min(float(height), box[1] + box[3])
    if right - left < 1 or bottom - top < 1:
        return None
    side = math.ceil(max(right - left, bottom - top))

    def span(low: float, high: float, size: int) -> tuple[int, int]:
        length = min(side, size)
        start = min(max(0, round((low + high - length) / 2)), size - length)
        return start, start + length

    (x, end), (y, last) = span(left, right, width), span(top, bottom, height)
    return x, y, end, last
