"""Determine the white level of grey photos of more than 8 bits, one for all photos of a folder.

Cameras, microscopes and scanners store 10, 12 or 14 bits in 16-bit files, which do not record how
many. One photo's largest value is not enough: a dark 16-bit photo may have none above 4,095, and
would be brightened as if it had 12 bits. So the white level is the largest estimate over a folder's
photos, and a personal model stores that of its support photos.

A photo with values above this level is scaled by its own estimate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Any

from fewshot_lite.images.folders import Skipped
from fewshot_lite.images.kinds import PHOTO_ENDINGS, VIDEO_ENDINGS
from fewshot_lite.images.opening import PhotoError
from fewshot_lite.images.photo import NO_WHITES, Source, Whites, place_of, read_white

#: Key in a personal model's record.
WHITES = "whites"

#: Photos that are sampled.
_SAMPLE = 64
#: Photos read at a time; reading stops once all 16 bits are in use.
_TOGETHER = 8
#: Endings of formats that may hold more than 8 bits of grey, and the common ones that cannot.
_DEEP = frozenset([".png", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".jp2"])
_SHALLOW = (PHOTO_ENDINGS | VIDEO_ENDINGS) - _DEEP
_SIXTEEN_BITS = 65535.0


def find_whites(sources: Sequence[Source | Skipped], known: Whites = NO_WHITES) -> dict[str, float]:
    """Estimate the white level of grey photos of more than 8 bits from a sample.

    Args:
        sources: the photos; unreadable ones are ignored.
        known: lower bounds of the result.
    """
    whites = dict(known)
    deep = [
        source
        for source in sources
        if not isinstance(source, Skipped) and place_of(source).suffix.lower() not in _SHALLOW
    ]
    step = max(1.0, len(deep) / _SAMPLE)
    sample = [deep[int(i * step)] for i in range(min(len(deep), _SAMPLE))]
    with ThreadPoolExecutor(_TOGETHER) as pool:
        for start in range(0, len(sample), _TOGETHER):
            for kind, white in filter(None, pool.map(_read_white, sample[start:][:_TOGETHER])):
                whites[kind] = max(white, whites.get(kind, 0.0))
            if whites.get("I", 0.0) >= _SIXTEEN_BITS:
                break
    return whites


def with_whites(
    sources: Iterable[Source | Skipped], known: Whites = NO_WHITES, first: int = 192
) -> tuple[Iterable[Source | Skipped], dict[str, float]]:
    """Return the photos and their `find_whites`; of a stream, those of the first `first` photos."""
    if isinstance(sources, Sequence):
        return sources, find_whites(sources, known)
    stream: Iterator[Source | Skipped] = iter(sources)
    begin = list(islice(stream, first))
    return chain(begin, stream), find_whites(begin, known)


def recorded_whites(provenance: Mapping[str, Any]) -> dict[str, float]:
    """Return the white levels in a personal model's record, those of its support photos."""
    whites = provenance.get(WHITES)
    if not isinstance(whites, dict):
        return {}
    return {
        kind: float(white)
        for kind, white in whites.items()
        if kind in ("F", "I") and isinstance(white, int | float) and 0 < white < 1e38
    }


def in_words(whites: Whites, known: Whites = NO_WHITES) -> str:
    """Return a one-line notice if white differs from the known level, by default 16 bits; or ""."""
    white = whites.get("I", _SIXTEEN_BITS)
    if white == known.get("I", _SIXTEEN_BITS):
        return ""
    bits = math.log2(white + 1)
    depth = f" ({bits:.0f} bits)" if bits.is_integer() else ""
    return f"Grey photos of more than 8 bits: white is taken to be {white:,.0f}{depth} in all."


def _read_white(source: Source) -> tuple[str, float] | None:
    try:
        return read_white(source)
    except PhotoError:
        return None
