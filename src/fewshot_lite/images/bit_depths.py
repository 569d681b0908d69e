"""What white is in grey photos of more than 8 bits: one value for all photos of a folder.

Cameras, microscopes and scanners keep 10, 12 or 14 bits in files of 16, and a file does not say how
many. The largest value of one photo tells too little: a dark photo of 16 bits has none beyond
4,095, and would come out as bright as if it had 12. So white is the largest of what photos of one
folder seem to have, and a personal model keeps that of the photos it was adapted to.

A photo with larger values than the others were found to have is read by its own.
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

#: In a personal model's record.
WHITES = "whites"

#: Photos that are looked at.
_SAMPLE = 64
#: Those that are read at a time: nothing more can be learned from a folder that has all 16 bits.
_TOGETHER = 8
#: Endings of files that can have more than 8 bits of grey; others that are usual cannot.
_DEEP = frozenset([".png", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".jp2"])
_SHALLOW = (PHOTO_ENDINGS | VIDEO_ENDINGS) - _DEEP
_SIXTEEN_BITS = 65535.0


def find_whites(sources: Sequence[Source | Skipped], known: Whites = NO_WHITES) -> dict[str, float]:
    """White in grey photos of more than 8 bits, by a sample of them.

    Args:
        sources: the photos; what cannot be read tells nothing.
        known: what white is at least.
    """
    found = dict(known)
    deep = [source for source in sources if _may_be_deep(source)]
    step = max(1.0, len(deep) / _SAMPLE)
    sample = [deep[int(i * step)] for i in range(min(len(deep), _SAMPLE))]
    with ThreadPoolExecutor(_TOGETHER) as pool:
        for start in range(0, len(sample), _TOGETHER):
            for kind, white in pool.map(_read_white, sample[start : start + _TOGETHER]):
                found[kind] = max(white, found.get(kind, 0.0))
            if found.get("I", 0.0) >= _SIXTEEN_BITS:
                break
    return {kind: white for kind, white in found.items() if kind}


def with_whites(
    sources: Iterable[Source | Skipped], known: Whites = NO_WHITES, first: int = 192
) -> tuple[Iterable[Source | Skipped], dict[str, float]]:
    """The photos, and `find_whites` of them; of a stream, of so many of the first."""
    if isinstance(sources, Sequence):
        return sources, find_whites(sources, known)
    stream: Iterator[Source | Skipped] = iter(sources)
    begin = list(islice(stream, first))
    return chain(begin, stream), find_whites(begin, known)


def recorded_whites(provenance: Mapping[str, Any]) -> dict[str, float]:
    """White in the photos that a personal model was adapted to."""
    found = provenance.get(WHITES)
    if not isinstance(found, dict):
        return {}
    return {
        kind: float(white)
        for kind, white in found.items()
        if kind in ("F", "I") and isinstance(white, int | float) and 0 < white < 1e38
    }


def in_words(whites: Whites, known: Whites = NO_WHITES) -> str:
    """One line where white is another than was known, or else than 16 bits hold; or nothing."""
    white = whites.get("I", _SIXTEEN_BITS)
    if white == known.get("I", _SIXTEEN_BITS):
        return ""
    bits = math.log2(white + 1)
    held = f" ({bits:.0f} bits)" if bits.is_integer() else ""
    return f"Grey photos of more than 8 bits: white is taken to be {white:,.0f}{held} in all."


def _may_be_deep(source: Source | Skipped) -> bool:
    return not isinstance(source, Skipped) and place_of(source).suffix.lower() not in _SHALLOW


def _read_white(source: Source) -> tuple[str, float]:
    try:
        return read_white(source) or ("", 0.0)
    except PhotoError:
        return "", 0.0
