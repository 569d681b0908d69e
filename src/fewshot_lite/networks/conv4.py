"""Conv-4: the small network of the MAML, ProtoNets and iMAML papers.

Four blocks of a 3 × 3 convolution with 64 channels, batch normalisation, ReLU and 2 × 2 max-pooling
(Vinyals et al. 2016, section 4.1). Finn et al. 2017 use strided convolutions on Omniglot instead of
pooling; Snell et al. 2017 and the rest of the literature pool. Images have three channels, equal
ones for characters.

The papers normalise by the statistics of each batch. Here BatchNorm has running statistics, as
usual; gradient learners replace it (`support_norm`).
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

CHANNELS = 64


class Conv4(nn.Module):
    """The network, with a final linear layer like torchvision's."""

    def __init__(self, image_size: int) -> None:
        """Build with torch's default initialisation.

        Args:
            image_size: side of the images in pixels; features are 64 · (side // 16)² wide.

        Raises:
            ValueError: `image_size` is below 16.
        """
        super().__init__()
        if image_size < 16:
            raise ValueError(f"{image_size} px leave nothing after four poolings; 16 is the least")
        self.image_size = image_size
        inputs = (3, CHANNELS, CHANNELS, CHANNELS)
        self.features = nn.Sequential(*(_block(channels) for channels in inputs))
        self.classifier = nn.Linear(CHANNELS * (image_size // 16) ** 2, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of images (B, 3, S, S); raise ValueError for another size."""
        if images.shape[-1] // 16 != self.image_size // 16:
            raise ValueError(f"built for images of {self.image_size} px")
        return cast(Tensor, self.classifier(self.features(images).flatten(1)))


def _block(inputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, CHANNELS, 3, padding=1, bias=False),
        nn.BatchNorm2d(CHANNELS),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
