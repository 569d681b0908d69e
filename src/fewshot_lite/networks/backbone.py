"""Backbones: networks that map images to features, with access to their norm layers.

A backbone is a network without its last linear layer. It always runs in evaluation mode (except in
`pretrain`): batch statistics would couple the images of a task, and dropout or stochastic depth
would make LITE's second pass over a support image differ from its first.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fewshot_lite.core.config import Precision
from fewshot_lite.core.devices import autocast
from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.tensor_files import image_size
from fewshot_lite.images.pixels import as_float
from fewshot_lite.networks.architectures import build, preprocessing
from fewshot_lite.networks.micro_batches import Cast

NormLayer = _BatchNorm | nn.LayerNorm | nn.GroupNorm


class Backbone(nn.Module):
    """A network without its last linear layer.

    Attributes:
        name: the architecture.
        feature_dim: d, the width of the features.
        image_size: side of the images it was built for.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str, image_size: int = 224, seed: int = 0, *, initialise: bool = True
    ) -> None:
        """Build with random weights.

        Args:
            name: "efficientnet_lite0", "conv4", or any classification network with norm layers of
                torchvision, e.g. "resnet18", or of timm, e.g. "timm:resnet18".
            image_size: side of the images; used by fixed grids (vit_*, maxvit_t, conv4) only.
            seed: of the random weights; torch's global random state is restored.
            initialise: draw random weights; False saves time if all weights are loaded afterwards.

        Raises:
            UsageError: the name is unknown, the network has no norm layers, or its fixed grid does
                not divide the image size.
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
            constants = torch.tensor(values, device="cpu")  # not loaded: see `checkpoint.build`
            self.register_buffer(kind, constants.view(1, 3, 1, 1), persistent=False)

    def norm_layers(self) -> dict[str, NormLayer]:
        """Return the normalisation layers with affine parameters, by name in this module."""
        return {
            name: module
            for name, module in self.named_modules()
            if isinstance(module, NormLayer) and getattr(module, "weight", None) is not None
        }

    def standardise(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set the channel means and standard deviations that images are standardised by.

        Raises:
            ValueError: not three numbers each, or a standard deviation is not above 0.
        """
        for buffer, values in ((self.mean, mean), (self.std, std)):
            buffer.copy_(
                torch.tensor(values, dtype=buffer.dtype, device=buffer.device).view(1, 3, 1, 1)
            )
        if not bool((self.std > 0).all() and self.mean.isfinite().all()):
            raise ValueError(f"mean {mean}, std {std}")

    def prepared(self, images: Tensor) -> Tensor:
        """Standardise images as `forward` takes them for the network."""
        images = (as_float(images) - self.mean) / self.std
        return images.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, d), float32 or better even under autocast.

        Args:
            images: (B, 3, S, S) RGB, uint8 or float in [0, 1].
        """
        features = cast(Tensor, self.network(self.prepared(images))).flatten(1)
        return features.to(torch.promote_types(features.dtype, torch.float32))


def check_images_apart(network: nn.Module) -> None:
    """Check that an image's features do not depend on the rest of its batch, as LITE requires.

    Raises:
        UsageError: a BatchNorm layer has no running statistics, so it uses the batch's even in
            evaluation mode.
    """
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise UsageError(
                f"layer {name!r}: BatchNorm without running statistics couples the images of a "
                "batch. Build it with track_running_stats=True, or use GroupNorm."
            )


def has_depthwise_convolutions(backbone: nn.Module) -> bool:
    """Return True for EfficientNet, MobileNet etc., whose bfloat16 kernels are slow on CPUs."""
    return any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in backbone.modules())


def cast_for(backbone: Backbone, device: torch.device, precision: Precision) -> Cast:
    """Return the factory of the `autocast` context of a backbone on a device."""
    depthwise = has_depthwise_convolutions(backbone)
    return functools.partial(autocast, device, precision, depthwise=depthwise)


def describe_backbone(backbone: Backbone, size: int) -> dict[str, Any]:
    """Return a JSON-able description for `described_backbone`; `size` is the image size in use."""
    return {
        "backbone": backbone.name,
        "image_size": size,
        "mean": backbone.mean.flatten().tolist(),
        "std": backbone.std.flatten().tolist(),
    }


def described_backbone(meta: dict[str, Any]) -> Backbone:
    """Build the backbone of a description; its weights are still to be loaded.

    Raises:
        one of `core.errors.DAMAGE`: the description is invalid.
    """
    backbone = Backbone(meta["backbone"], image_size(meta), initialise=False)
    backbone.standardise(meta["mean"], meta["std"])
    return backbone
