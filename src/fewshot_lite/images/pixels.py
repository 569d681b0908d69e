"""Images are uint8 until the last moment: a quarter of the memory, and no doubt about the range."""

from __future__ import annotations

import torch
from torch import Tensor


def as_float(images: Tensor) -> Tensor:
    """uint8 in 0..255 to float32 in [0, 1]; float images are taken to be in [0, 1] already."""
    return images.float() / 255 if images.dtype == torch.uint8 else images
