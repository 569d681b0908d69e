"""Build networks of torchvision, timm and this package by name, without classification layer."""

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

#: Networks with auxiliary classifiers, which are also slow to initialise.
_UNSUPPORTED = frozenset({"googlenet", "inception_v3"})
#: Networks whose state is more than tensors, so that safetensors cannot hold it.
_VERSIONED = "mnasnet"

#: The small network of the MAML papers; see `networks.conv4`.
CONV4 = "conv4"


@dataclass(frozen=True)
class Preprocessing:
    """The images that a network's published weights expect."""

    size: int = 224
    """Side in pixels."""
    mean: tuple[float, ...] = MEAN
    """Mean of each of the three channels, of images in [0, 1]."""
    std: tuple[float, ...] = STD


def preprocessing(name: str) -> Preprocessing:
    """Return the preprocessing that a network's published weights were evaluated with.

    Raises:
        UsageError: the network does not exist.
    """
    if name.startswith(TIMM):
        config = timm_models.configuration(name)
        return Preprocessing(config.input_size[-1], config.mean, config.std)
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
    """Build a network without its classification layer; return it and its feature width d.

    Args:
        name: as for `Backbone`.
        image_size: side of the images; used by networks with a fixed grid only.
        seed: of the random weights; torch's global random state is restored.
        initialise: draw random weights; False saves time if all weights are loaded afterwards.

    Raises:
        UsageError: the network does not exist, or is not supported at all or at this size.
    """
    try:
        context = contextlib.nullcontext() if initialise else Uninitialised()
        with torch.random.fork_rng(devices=[]), context:
            torch.manual_seed(seed)
            if name.startswith(TIMM):
                return timm_models.build(name, image_size)
            _check(name)
            network = _build(name, image_size)
    except (ValueError, AssertionError) as error:  # the grid does not divide the image size
        raise UsageError(f"backbone {name!r} at {image_size} px: {first_line(error)}.") from None
    return network, _remove_last_linear(network, name)


def _check(name: str) -> None:
    """Raise UsageError for unknown and unsupported networks."""
    if name == CONV4 or name in VARIANTS:
        return
    from fewshot_lite.networks.torchvision_models import models  # slow to import

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
    """Return constructor arguments of networks that are built for one image size."""
    if name.startswith("vit_"):
        return {"image_size": image_size}
    return {"input_size": (image_size, image_size)} if name.startswith("maxvit_") else {}


def _not_supported(name: str) -> UsageError:
    return UsageError(f"backbone {name!r}: not supported. Choose another, e.g. resnet18.")


def _remove_last_linear(network: nn.Module, name: str) -> int:
    """Replace the classification layer by the identity; return the width of its input."""
    linear = [(path, m) for path, m in network.named_modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise _not_supported(name)
    path, layer = linear[-1]
    parent, _, leaf = path.rpartition(".")
    setattr(network.get_submodule(parent), leaf, nn.Identity())
    return int(layer.in_features)
