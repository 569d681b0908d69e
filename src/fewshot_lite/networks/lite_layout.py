"""Layer dimensions of EfficientNet-Lite, without importing torch; see `efficientnet_lite`."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """One network of the family."""

    width: float
    """Factor on the channels, except in stem and head."""
    depth: float
    """Factor on the blocks of a group, except in the first and last group."""
    image_size: int
    sha256: str
    """SHA-256 of the packaged file of weights."""


VARIANTS = {
    "efficientnet_lite0": Variant(
        1.0, 1.0, 224, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet_lite1": Variant(
        1.0, 1.1, 240, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet_lite2": Variant(
        1.1, 1.2, 260, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}

#: Channels of the first and the last convolution in all variants.
STEM, HEAD = 32, 1280
#: Added to the variance in batch normalisation.
EPSILON = 1e-3

#: Groups of blocks: number of blocks, kernel, stride of the first, expansion, output channels.
_GROUPS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class BlockShape:
    """Dimensions of an inverted residual; `kernel` and `stride` of its depthwise convolution."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expansion: int


def block_shapes(variant: Variant) -> list[BlockShape]:
    """Return the blocks of a variant in order: 16 in Lite0, 21 in Lite1 and Lite2."""
    shapes = []
    inputs = STEM
    for group, (repeats, kernel, stride, expansion, outputs) in enumerate(_GROUPS):
        scaled = 0 < group < len(_GROUPS) - 1
        outputs = _rounded(outputs * variant.width)
        for number in range(math.ceil(repeats * variant.depth) if scaled else repeats):
            step = 1 if number else stride
            shapes.append(BlockShape(inputs, outputs, kernel, step, expansion))
            inputs = outputs
    return shapes


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's "SAME" padding before and after `size` pixels."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _rounded(channels: float) -> int:
    """Round to a multiple of 8, no more than 10 % down (`round_filters` of EfficientNet)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8
