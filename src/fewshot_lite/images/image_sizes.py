"""Read the widths and heights of images from their headers, without decoding them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewshot_lite.images.opening import PhotoError, opened

Sizes = tuple[tuple[int, int], tuple[int, int]]

#: Unreadable files named individually.
_MOST_NAMED = 5


def size_range(paths: Sequence[Path]) -> tuple[Sizes | None, list[str]]:
    """Return the smallest and largest (width, height) by area, and messages about unreadable files.

    Sizes are those stored, before EXIF orientation is applied.
    """
    sizes: list[tuple[int, int]] = []
    unreadable: list[str] = []
    for path in paths:
        try:
            with opened(path) as image:
                sizes.append(image.size)
        except PhotoError as error:
            unreadable.append(f"{path}: {error}.")
    if len(unreadable) > _MOST_NAMED:
        more = len(unreadable) - _MOST_NAMED
        unreadable = [*unreadable[:_MOST_NAMED], f"{more:,} more files cannot be read."]
    if not sizes:
        return None, unreadable
    sizes.sort(key=lambda size: size[0] * size[1])
    return (sizes[0], sizes[-1]), unreadable
