"""torchvision networks as backbones: images in, features out, norm layers found.

A backbone is the network as torchvision builds it with its last linear layer taken off. It always
runs in evaluation mode (except in `pretrain`): batch statistics would couple the images of a task
with each other, and dropout or stochastic depth would make LITE's second pass over a support image
differ from its first.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision import models

from fewshot_lite import checkpoint
from fewshot_lite.errors import FewshotError, UsageError
from fewshot_lite.pixels import as_float

#: ImageNet's channel means and standard deviations, which torchvision's weights expect.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

#: Networks with classifiers inside besides the last one, and slow to initialise at random.
_UNSUPPORTED = frozenset({"googlenet", "inception_v3"})
#: Networks whose state is more than its tensors, which is all that safetensors keeps.
_VERSIONED = "mnasnet"

NormLayer = _BatchNorm | nn.LayerNorm | nn.GroupNorm


class Backbone(nn.Module):
    """A torchvision network without its last linear layer.

    Attributes:
        name: torchvision's name of the architecture.
        feature_dim: d, the width of the features.
        image_size: side of the images it was built for.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, image_size: int = 224, seed: int = 0) -> None:
        """Build with random weights, as torchvision initialises them.

        Args:
            name: e.g. "resnet18"; any torchvision classification network with norm layers.
            image_size: side of the images; matters to fixed grids (vit_*, maxvit_t) alone.
            seed: of the weights; torch's own random state is left as it is.

        Raises:
            UsageError: unknown name, a network without norm layers to adapt, or an image size that
                a fixed grid does not divide.
        """
        super().__init__()
        if name not in models.list_models(module=models):
            raise UsageError(
                f"backbone {name!r}: torchvision has no such network. "
                "Try resnet18, efficientnet_b0, mobilenet_v3_large, regnet_y_400mf, convnext_tiny."
            )
        if name in _UNSUPPORTED or name.startswith(_VERSIONED):
            raise _not_supported(name)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.network = models.get_model(name, weights=None, **_fixed_grid(name, image_size))
        except (ValueError, AssertionError) as error:  # the grid does not divide the image size
            raise UsageError(
                f"backbone {name!r} at {image_size} px: {_first_line(error)}."
            ) from None
        self.name = name
        self.image_size = image_size
        self.feature_dim = _take_off_last_linear(self.network, name)
        if not self.norm_layers():
            raise UsageError(
                f"backbone {name!r}: has no normalisation layers, so FiLM has nothing to adapt. "
                "Choose one with BatchNorm or LayerNorm, e.g. resnet18."
            )
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def norm_layers(self) -> dict[str, NormLayer]:
        """Normalisation layers with affine parameters, by their name in this module."""
        return {
            name: module
            for name, module in self.named_modules()
            if isinstance(module, NormLayer) and getattr(module, "weight", None) is not None
        }

    def forward(self, images: Tensor) -> Tensor:
        """Features of images.

        Args:
            images: (B, 3, S, S) RGB, uint8 or float in [0, 1].

        Returns:
            (B, d); float32 or better whatever autocast does inside.
        """
        images = ((as_float(images) - self.mean) / self.std).contiguous(
            memory_format=torch.channels_last
        )
        features = cast(Tensor, self.network(images))
        return features.flatten(1).to(torch.promote_types(features.dtype, torch.float32))


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


def has_depthwise_convolutions(backbone: nn.Module) -> bool:
    """True for efficientnet, mobilenet and their like, whose bfloat16 kernels are slow on CPUs."""
    return any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in backbone.modules())


def load_backbone(
    name: str | None, weights: str, image_size: int | None, *, seed: int = 0
) -> tuple[Backbone, dict[str, Any]]:
    """Build a backbone with the weights asked for.

    Args:
        name: torchvision's name; None takes what a checkpoint says, or resnet18.
        weights: "default" (torchvision's own, downloaded once and checked by hash), "none"
            (random) or a file: a checkpoint of `pretrain`, safetensors or .pth of a state dict.
        image_size: side of the images that the backbone will see; None takes what a checkpoint
            says, else 224 for torchvision's weights and 96 for others.
        seed: of random weights.

    Returns:
        The backbone in evaluation mode and a JSON-able record of where it is from.
    """
    if weights == "none":
        return Backbone(name or "resnet18", image_size or 96, seed).eval(), {"weights": "none"}
    if weights == "default":
        backbone = Backbone(name or "resnet18", image_size or 224)
        source = _load_torchvision_weights(backbone)
        return backbone.eval(), {"weights": source}
    return _load_from_file(name, Path(weights), image_size)


def _load_torchvision_weights(backbone: Backbone) -> str:
    entry = models.get_model_weights(backbone.name).DEFAULT
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where results go, what is going on does not
            state = entry.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; RuntimeError: wrong hash
        raise FewshotError(
            f"The ImageNet weights of {backbone.name} could not be had ({_first_line(error)}). "
            "Without a network use the shipped model (leave --base out), --weights FILE with a "
            "copy of torchvision's file, or --weights none."
        ) from None
    _load_state(backbone, state, str(entry))
    return f"torchvision {entry}"


def _load_from_file(
    name: str | None, path: Path, image_size: int | None
) -> tuple[Backbone, dict[str, Any]]:
    if not path.exists():
        raise UsageError(f"--weights {path}: no such file. Give a file, 'default' or 'none'.")
    if path.is_dir():
        raise UsageError(f"--weights {path}: a folder. Give a file, 'default' or 'none'.")
    record: dict[str, Any] = {"weights": path.name, "sha256": checkpoint.sha256(path)}
    if path.suffix == ".safetensors":
        tensors, meta = checkpoint.read_any(path)
        if meta is not None:
            if meta.get("kind") != "backbone":
                raise UsageError(
                    f"--weights {path}: a {meta.get('kind')} file, not a backbone. "
                    "Give what `fewshot-lite pretrain` wrote."
                )
            held, size = meta.get("backbone"), meta.get("image_size")
            if not (isinstance(held, str) and isinstance(size, int)):
                raise FewshotError(f"--weights {path}: its description is damaged.")
            if name not in (None, held):
                raise UsageError(
                    f"--backbone {name} does not match --weights {path}, which holds a "
                    f"{held}. Leave --backbone out."
                )
            name, image_size = held, image_size or size
            record["pretrained"] = meta
    else:
        tensors = _read_pth(path)
    backbone = Backbone(name or "resnet18", image_size or 96)
    _load_state(backbone, tensors, str(path))
    return backbone.eval(), record


def _read_pth(path: Path) -> dict[str, Tensor]:
    """A state dict saved by torch.save, without unpickling anything but tensors."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever zip, pickle and storage code raise, with advice not to be followed
        raise FewshotError(
            f"--weights {path}: damaged, or it holds more than tensors and is not safe to read. "
            "Save the network's state_dict() with torch.save, or use safetensors."
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not (
        isinstance(state, dict)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    ):
        raise FewshotError(f"--weights {path}: holds no state dict (names -> tensors).")
    return state


def _load_state(backbone: Backbone, tensors: dict[str, Tensor], source: str) -> None:
    """Load tensors into the network, leaving out a classification layer it no longer has."""
    wanted = backbone.network.state_dict()
    given = {key.removeprefix("network."): value for key, value in tensors.items()}
    missing = [key for key in wanted if key not in given and "num_batches" not in key]
    wrong = [key for key in wanted if key in given and given[key].shape != wanted[key].shape]
    if missing or wrong:
        problem = f"{missing[0]} is missing" if missing else f"{wrong[0]} has another shape"
        raise FewshotError(f"{source}: not the weights of a {backbone.name} ({problem}).")
    kept = {key: value for key, value in given.items() if key in wanted}
    backbone.network.load_state_dict(kept, strict=False)


def _first_line(error: BaseException) -> str:
    with contextlib.suppress(IndexError):
        return str(error).strip().splitlines()[0].rstrip(".")
    return type(error).__name__
