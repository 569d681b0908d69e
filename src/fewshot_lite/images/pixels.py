"""Convert pixels to floats. Images stay uint8 until the network, at a quarter of the memory."""

from __future__ import annotations

import torch
from torch import Tensor


def as_float(images: Tensor) -> Tensor:
    """Convert uint8 in 0..255 to float32 in [0, 1]; float images are in [0, 1] already."""
    return images.float() / 255 if images.dtype == torch.uint8 else images
