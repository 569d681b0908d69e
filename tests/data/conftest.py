"""Pictures and folders that the tests of the data layer write for themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def picture() -> Image.Image:
    """96 x 64, RGB, smooth as a photo, no two corners alike."""
    spots = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(spots).resize((96, 64), Image.Resampling.BICUBIC)


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Makes small files, and folders where a name ends in a slash; returns the folder of all."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            if name.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"not decoded here")
        return tmp_path

    return make
