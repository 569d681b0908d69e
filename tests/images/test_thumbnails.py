"""Thumbnails in and out of the two arrays that a file keeps."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from fewshot_lite.images.thumbnails import SIDE, make_thumbnails, packed, thumbnail, unpacked


@pytest.mark.parametrize(("side", "shown"), [(32, 32), (96, 96), (300, SIDE)])
def test_a_thumbnail_is_a_small_jpeg_of_the_image(side: int, shown: int) -> None:
    ramp = np.linspace(0, 255, side, dtype=np.uint8)
    images = np.broadcast_to(ramp, (2, 3, side, side)).copy()
    images[1] = images[1].transpose(0, 2, 1)
    for jpeg, image in zip(make_thumbnails(images), images, strict=True):
        opened = Image.open(BytesIO(jpeg))
        assert (opened.format, opened.size) == ("JPEG", (shown, shown))
        want = Image.fromarray(image.transpose(1, 2, 0)).resize((shown, shown))
        assert np.abs(np.asarray(opened, float) - np.asarray(want, float)).mean() < 4
        assert len(jpeg) < 4000


def test_the_worst_image_still_fits() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    assert len(thumbnail(noise)) < 2**15


JPEG = thumbnail(np.zeros((8, 8, 3), dtype=np.uint8))


def test_arrays_round_trip() -> None:
    for jpegs in ((), (JPEG,), (JPEG, b"", JPEG)):
        joined, sizes = packed(jpegs)
        assert (joined.dtype, sizes.dtype) == (np.uint8, np.int64)
        assert unpacked(joined, sizes.tolist()) == jpegs


@pytest.mark.parametrize(
    ("data", "sizes"),
    [
        (JPEG, [len(JPEG) - 1]),
        (JPEG, [len(JPEG) + 1]),
        (JPEG, [-1, len(JPEG) + 1]),
        (JPEG + JPEG, [len(JPEG) + 1, len(JPEG) - 1]),
        (b"<svg onload=x>", [14]),
        (JPEG * 400, [len(JPEG) * 400]),
    ],
)
def test_what_is_no_row_of_jpegs_is_refused(data: bytes, sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="thumbnail"):
        unpacked(np.frombuffer(data, dtype=np.uint8), sizes)
