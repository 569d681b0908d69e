"""The set encoder: a task's support images to its embedding z, at a cost that does not show.

The published one (five convolutions of 64 channels on the full image) costs more than the backbone
it adapts: 0.70 against 0.39 GMAC an image for efficientnet_b0 at 224 px. Ours resizes the images
first. It has no batch statistics: e(x) depends on x alone, or LITE would not be unbiased.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_lite.pixels import as_float


class SetEncoder(nn.Module):
    """e(x; φ): an image to its contribution to z = mean_n e(x_n; φ) (Zaheer et al. 2017)."""

    def __init__(self, embedding_dim: int = 64, image_size: int = 48, width: int = 64) -> None:
        """Four convolutions with group normalisation.

        Args:
            embedding_dim: Z.
            image_size: side that images are resized to first.
            width: channels.
        """
        super().__init__()
        self.image_size = image_size
        self.embedding_dim = embedding_dim
        blocks: list[nn.Module] = []
        for inputs, outputs in ((3, width), (width, width), (width, width), (width, embedding_dim)):
            blocks += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.GroupNorm(8, outputs),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings of images.

        Args:
            images: (B, 3, S, S) RGB, uint8 or float in [0, 1].

        Returns:
            (B, Z), the dtype that autocast gives.
        """
        size = (self.image_size, self.image_size)
        images = as_float(images)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        images = (images - 0.5) / 0.25
        return cast(Tensor, self.blocks(images)).mean(dim=(2, 3))
