"""Networks by name, from torchvision, timm and here: built without their classification layer."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fewshot_lite.core.checkpoint import Uninitialised
from fewshot_lite.core.errors import UsageError, first_line
from fewshot_lite.networks import timm_models
from fewshot_lite.networks.conv4 import Conv4
from fewshot_lite.networks.downloads import published_weights
from fewshot_lite.networks.efficientnet_lite import EfficientNetLite
from fewshot_lite.networks.lite_layout import VARIANTS
from fewshot_lite.networks.names import TIMM, near

#: ImageNet's channel means and standard deviations, which torchvision's weights expect.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

#: Networks with classifiers inside besides the last one, and slow to initialise at random.
_UNSUPPORTED = frozenset({"googlenet", "inception_v3"})
#: Networks whose state is more than its tensors, which is all that safetensors keeps.
_VERSIONED = "mnasnet"

#: The small network of the papers on MAML; see `conv4`.
CONV4 = "conv4"


@dataclass(frozen=True)
class Preprocessing:
    """How a network's published weights expect images."""

    size: int = 224
    """Side in pixels."""
    mean: tuple[float, ...] = MEAN
    """One value for each of the three channels, which are in [0, 1]."""
    std: tuple[float, ...] = STD


def preprocessing(name: str) -> Preprocessing:
    """The preprocessing that a network's published weights were evaluated with.

    Raises:
        UsageError: no such network.
    """
    if name.startswith(TIMM):
        found = timm_models.configuration(name)
        return Preprocessing(found.input_size[-1], found.mean, found.std)
    _check(name)
    if name == CONV4:
        return Preprocessing(84)
    if name in VARIANTS:
        return Preprocessing(VARIANTS[name].image_size, (0.5,) * 3, (0.5,) * 3)
    transforms = published_weights(name).transforms()
    return Preprocessing(
        int(transforms.crop_size[0]), tuple(transforms.mean), tuple(transforms.std)
    )


def build(name: str, image_size: int, seed: int, *, initialise: bool) -> tuple[nn.Module, int]:
    """A network that ends in features, and their width d.

    Args:
        name: as `Backbone` takes it.
        image_size: side of the images; matters to fixed grids alone.
        seed: of the weights; torch's own random state is left as it is.
        initialise: draw the weights; False saves the time where all of them are loaded next.

    Raises:
        UsageError: no such network, one that is not supported, or not at this size.
    """
    try:
        drawing = contextlib.nullcontext() if initialise else Uninitialised()
        with torch.random.fork_rng(devices=[]), drawing:
            torch.manual_seed(seed)
            if name.startswith(TIMM):
                return timm_models.build(name, image_size)
            _check(name)
            network = _build(name, image_size)
    except (ValueError, AssertionError) as error:  # the grid does not divide the image size
        raise UsageError(f"backbone {name!r} at {image_size} px: {first_line(error)}.") from None
    return network, _take_off_last_linear(network, name)


def _check(name: str) -> None:
    """Refuse names of networks that there are not, or that cannot be backbones."""
    if name == CONV4 or name in VARIANTS:
        return
    from fewshot_lite.networks.torchvision_models import models  # not cheap

    if name not in models.list_models(module=models):
        raise UsageError(
            f"backbone {name!r}: there is no such network.{near(name, [CONV4])} Try "
            "efficientnet_lite0, or one of torchvision's: resnet18, efficientnet_b0, "
            "mobilenet_v3_large, regnet_y_400mf, convnext_tiny; timm:NAME for one of timm's; or "
            "conv4, the small one of the papers on MAML."
        )
    if name in _UNSUPPORTED or name.startswith(_VERSIONED):
        raise _not_supported(name)


def _build(name: str, image_size: int) -> nn.Module:
    if name == CONV4:
        return Conv4(image_size)
    if name in VARIANTS:
        return EfficientNetLite(VARIANTS[name])
    from fewshot_lite.networks.torchvision_models import models

    network: nn.Module = models.get_model(name, weights=None, **_fixed_grid(name, image_size))
    return network


def _fixed_grid(name: str, image_size: int) -> dict[str, Any]:
    """Arguments for networks that are built for one image size."""
    if name.startswith("vit_"):
        return {"image_size": image_size}
    return {"input_size": (image_size, image_size)} if name.startswith("maxvit_") else {}


def _not_supported(name: str) -> UsageError:
    return UsageError(f"backbone {name!r}: not supported. Choose another, e.g. resnet18.")


def _take_off_last_linear(network: nn.Module, name: str) -> int:
    """Replace the classification layer by the identity; return the width of what it was given."""
    linear = [(path, m) for path, m in network.named_modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise _not_supported(name)
    path, layer = linear[-1]
    parent, _, leaf = path.rpartition(".")
    setattr(network.get_submodule(parent), leaf, nn.Identity())
    return int(layer.in_features)
