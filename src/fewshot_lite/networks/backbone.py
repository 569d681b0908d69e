"""Networks as backbones: images in, features out, norm layers found.

A backbone is the network as `architectures` builds it, without its last linear layer. It always
runs in evaluation mode (except in `pretrain`): batch statistics would couple the images of a task
with each other, and dropout or stochastic depth would make LITE's second pass over a support image
differ from its first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fewshot_lite.core.config import Pooling
from fewshot_lite.core.errors import UsageError
from fewshot_lite.images.pixels import as_float
from fewshot_lite.networks.architectures import build, preprocessing

NormLayer = _BatchNorm | nn.LayerNorm | nn.GroupNorm


class Backbone(nn.Module):
    """A network without its last linear layer.

    Attributes:
        name: of the architecture.
        feature_dim: d, the width of the features.
        image_size: side of the images it was built for.
        scales: the factors by which images are reduced; one share of the features each.
        pooling: what is kept of each channel of the last map.
    """

    mean: Tensor
    std: Tensor
    scales: tuple[int, ...] = (1,)
    pooling: Pooling = "mean"

    def __init__(
        self, name: str, image_size: int = 224, seed: int = 0, *, initialise: bool = True
    ) -> None:
        """Build with random weights.

        Args:
            name: "efficientnet_lite0", "conv4", or any classification network with norm layers of
                torchvision, e.g. "resnet18", or of timm, e.g. "timm:resnet18".
            image_size: side of the images; matters to fixed grids (vit_*, maxvit_t, conv4) alone.
            seed: of the weights; torch's own random state is left as it is.
            initialise: draw the weights; False saves the time where all of them are loaded next.

        Raises:
            UsageError: unknown name, a network without norm layers to adapt, or an image size that
                a fixed grid does not divide.
        """
        super().__init__()
        self.name = name
        self.image_size = image_size
        self.network, self.feature_dim = build(name, image_size, seed, initialise=initialise)
        if not self.norm_layers():
            raise UsageError(
                f"backbone {name!r}: has no normalisation layers, so FiLM has nothing to adapt. "
                "Choose one with BatchNorm or LayerNorm, e.g. resnet18."
            )
        expected = preprocessing(name)
        for kind, values in (("mean", expected.mean), ("std", expected.std)):
            constants = torch.tensor(values, device="cpu")  # no file has them: see `build`
            self.register_buffer(kind, constants.view(1, 3, 1, 1), persistent=False)

    def norm_layers(self) -> dict[str, NormLayer]:
        """Normalisation layers with affine parameters, by their name in this module."""
        return {
            name: module
            for name, module in self.named_modules()
            if isinstance(module, NormLayer) and getattr(module, "weight", None) is not None
        }

    def standardise(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take the channel means and standard deviations of the data that weights are from.

        Raises:
            ValueError: not three numbers each, or a deviation that is not above 0.
        """
        for buffer, values in ((self.mean, mean), (self.std, std)):
            buffer.copy_(
                torch.tensor(values, dtype=buffer.dtype, device=buffer.device).view(1, 3, 1, 1)
            )
        if not bool((self.std > 0).all() and self.mean.isfinite().all()):
            raise ValueError(f"mean {mean}, std {std}")

    def look_at(self, scales: Sequence[int]) -> None:
        """Put the features of images reduced by each of these factors side by side.

        A thing fills more of some photos than of others, and a network knows things best at the
        size at which it saw them (Touvron et al. 2019, "Fixing the train-test resolution
        discrepancy"). The network and its FiLM parameters are the same at all scales.

        Args:
            scales: whole numbers of at least 1, each once: (1, 2) is as it is and at half the size.

        Raises:
            ValueError: other numbers.
        """
        if not scales or len(set(scales)) < len(scales) or min(scales) < 1:
            raise ValueError(f"scales {tuple(scales)}")
        self.feature_dim = self.feature_dim // len(self.scales) * len(scales)
        self.scales = tuple(scales)

    def pool_by(self, pooling: Pooling) -> None:
        """Keep the mean or the largest value of each channel of the network's last map.

        Trained with the mean, as torchvision's networks are, and used with the largest value, a
        network says what is there rather than how much of the photo it fills; README and model
        card have what that gains. It costs nothing.

        Raises:
            UsageError: the network does not end in a mean over its map and a flat layer.
            ValueError: no such pooling.
        """
        if pooling not in get_args(Pooling):
            raise ValueError(f"pooling {pooling!r}")
        pool = getattr(self.network, "avgpool", None)
        if not isinstance(pool, MaxOverMap) and not (
            isinstance(pool, nn.AdaptiveAvgPool2d) and pool.output_size in (1, (1, 1))
        ):
            if pooling == "max":
                raise UsageError(
                    f"--pooling max: {self.name} does not end in a mean over a map. Leave the flag "
                    "out, or take another network, e.g. resnet18."
                )
            return
        self.network.avgpool = MaxOverMap() if pooling == "max" else nn.AdaptiveAvgPool2d(1)
        self.pooling = pooling

    def prepared(self, images: Tensor, scale: int = 1) -> Tensor:
        """Images as the network takes them, of those that `forward` takes, reduced by a factor."""
        images = (as_float(images) - self.mean) / self.std
        # Whole factors: the mean of scale x scale pixels is the same in every runtime.
        reduced = F.avg_pool2d(images, scale) if scale > 1 else images
        return reduced.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Features of images.

        Args:
            images: (B, 3, S, S) RGB, uint8 or float in [0, 1].

        Returns:
            (B, d); float32 or better whatever autocast does inside.
        """
        parts = []
        for scale in self.scales:
            parts.append(cast(Tensor, self.network(self.prepared(images, scale))).flatten(1))
        features = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        return features.to(torch.promote_types(features.dtype, torch.float32))


class MaxOverMap(nn.Module):
    """The largest value of each channel, (B, C, H, W) to (B, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        """Where several are the largest they share the gradient."""
        return x.amax(dim=(2, 3), keepdim=True)


def check_images_apart(network: nn.Module) -> None:
    """Refuse networks in which the images of a batch change each other's features.

    Raises:
        UsageError: a BatchNorm layer without running statistics takes the batch's even in
            evaluation mode. LITE and folding need features that depend on their own image alone.
    """
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise UsageError(
                f"layer {name!r}: BatchNorm without running statistics couples the images of a "
                "batch. Build it with track_running_stats=True, or use GroupNorm."
            )


def has_depthwise_convolutions(backbone: nn.Module) -> bool:
    """True for efficientnet, mobilenet and their like, whose bfloat16 kernels are slow on CPUs."""
    return any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in backbone.modules())
