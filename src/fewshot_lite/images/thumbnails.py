"""Thumbnails of the support photos, which a personal model stores to explain its answers.

They are JPEGs of the central squares. A model without thumbnails has an empty tuple; a photo
without one has empty bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

#: Largest side in pixels and JPEG quality: 2 to 3 kB each.
SIDE, QUALITY = 96, 70
#: Largest thumbnail in bytes, above that of 96 x 96 pixels of noise.
_MOST_BYTES = 2**16

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"


def thumbnail(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return a JPEG of an image, uint8 (S, S, 3), scaled down to 96 pixels a side if larger."""
    image = Image.fromarray(pixels)
    if image.width > SIDE:
        image = image.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=3.0)
    file = BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def make_thumbnails(images: Iterable[npt.NDArray[np.uint8]]) -> tuple[bytes, ...]:
    """Return JPEGs of decoded images, uint8 (N, 3, S, S)."""
    return tuple(thumbnail(np.ascontiguousarray(pixels.transpose(1, 2, 0))) for pixels in images)


def packed(jpegs: Sequence[bytes]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return arrays for a file: uint8 (B,), all JPEGs concatenated, and int64 (N,), their sizes."""
    joined = np.frombuffer(b"".join(jpegs), dtype=np.uint8).copy()
    return joined, np.array([len(jpeg) for jpeg in jpegs], dtype=np.int64)


def unpacked(joined: npt.NDArray[np.uint8], sizes: Sequence[int]) -> tuple[bytes, ...]:
    """Split the arrays of `packed` into JPEGs again.

    Raises:
        ValueError: the sizes do not add up, or a part does not begin and end like a JPEG.
    """
    if min(sizes, default=0) < 0 or max(sizes, default=0) > _MOST_BYTES:
        raise ValueError("a thumbnail of an impossible size")
    if sum(sizes) != len(joined):
        raise ValueError("thumbnails of other sizes than their description has")
    data, jpegs, start = joined.tobytes(), [], 0
    for size in sizes:
        jpegs.append(data[start : start + size])
        start += size
    if any(jpeg and not (jpeg.startswith(_START) and jpeg.endswith(_END)) for jpeg in jpegs):
        raise ValueError("a thumbnail that is no JPEG")
    return tuple(jpegs)
