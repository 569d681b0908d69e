"""Photos out of nothing, no two alike, for tests of what is a copy."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image


@functools.cache
def photo(seed: int) -> Image.Image:
    """Clouds at several scales in a few colours, as photos have them: no two seeds alike."""
    rng = np.random.default_rng(seed)
    clouds = [Image.fromarray(rng.normal(size=(n, n)).astype(np.float32)) for n in (3, 6, 12, 24)]
    light = sum(
        np.asarray(cloud.resize((192, 144), Image.Resampling.BICUBIC)) / cloud.width
        for cloud in clouds
    )
    tint = np.asarray(
        Image.fromarray(rng.integers(96, 160, (3, 3, 3), dtype=np.uint8)).resize((192, 144))
    )
    return Image.fromarray(np.clip(tint + 200 * light[..., None], 0, 255).astype(np.uint8))


def cropped(image: Image.Image, left: float, top: float, share: float = 0.95) -> Image.Image:
    """What is left of a photo, that share of each side, from so far into what is cut off."""
    width, height = image.size
    x, y = left * (1 - share) * width, top * (1 - share) * height
    return image.crop((round(x), round(y), round(x + share * width), round(y + share * height)))
