"""torchvision networks (and Conv-4) as backbones: images in, features out, norm layers found.

A backbone is the network as torchvision builds it with its last linear layer taken off. It always
runs in evaluation mode (except in `pretrain`): batch statistics would couple the images of a task
with each other, and dropout or stochastic depth would make LITE's second pass over a support image
differ from its first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fewshot_lite.core import checkpoint
from fewshot_lite.core.config import Pooling
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.images.pixels import as_float
from fewshot_lite.networks.conv4 import Conv4
from fewshot_lite.networks.downloads import fetch, published_weights
from fewshot_lite.networks.names import near
from fewshot_lite.networks.torchvision_models import Uninitialised, models

#: ImageNet's channel means and standard deviations, which torchvision's weights expect.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

#: Networks with classifiers inside besides the last one, and slow to initialise at random.
_UNSUPPORTED = frozenset({"googlenet", "inception_v3"})
#: Networks whose state is more than its tensors, which is all that safetensors keeps.
_VERSIONED = "mnasnet"

#: The one network that is not torchvision's; see `conv4`.
CONV4 = "conv4"

NormLayer = _BatchNorm | nn.LayerNorm | nn.GroupNorm


class Backbone(nn.Module):
    """A torchvision network without its last linear layer.

    Attributes:
        name: torchvision's name of the architecture.
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
        """Build with random weights, as torchvision initialises them.

        Args:
            name: e.g. "resnet18", any torchvision classification network with norm layers; or
                "conv4".
            image_size: side of the images; matters to fixed grids (vit_*, maxvit_t, conv4) alone.
            seed: of the weights; torch's own random state is left as it is.
            initialise: draw the weights; False saves the time where all of them are loaded next.

        Raises:
            UsageError: unknown name, a network without norm layers to adapt, or an image size that
                a fixed grid does not divide.
        """
        super().__init__()
        if name != CONV4 and name not in models.list_models(module=models):
            raise UsageError(
                f"backbone {name!r}: torchvision has no such network.{near(name, [CONV4])} "
                "Try resnet18, efficientnet_b0, mobilenet_v3_large, regnet_y_400mf, convnext_tiny, "
                "or conv4, the small one of the papers on MAML."
            )
        if name in _UNSUPPORTED or name.startswith(_VERSIONED):
            raise _not_supported(name)
        try:
            drawing = contextlib.nullcontext() if initialise else Uninitialised()
            with torch.random.fork_rng(devices=[]), drawing:
                torch.manual_seed(seed)
                self.network = _build(name, image_size)
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

    def standardise(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take the channel means and standard deviations of the data that weights are from.

        Raises:
            ValueError: not three numbers each, or a deviation that is not above 0.
        """
        for buffer, values in ((self.mean, mean), (self.std, std)):
            buffer.copy_(torch.tensor(values, dtype=buffer.dtype).view(1, 3, 1, 1))
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
        """What the network is given of images as `forward` takes them, reduced by a factor."""
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


def _build(name: str, image_size: int) -> nn.Module:
    if name == CONV4:
        return Conv4(image_size)
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


def has_depthwise_convolutions(backbone: nn.Module) -> bool:
    """True for efficientnet, mobilenet and their like, whose bfloat16 kernels are slow on CPUs."""
    return any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in backbone.modules())


def load_backbone(
    name: str | None,
    weights: str,
    image_size: int | None,
    *,
    seed: int = 0,
    foreign_size: int = 96,
) -> tuple[Backbone, dict[str, Any]]:
    """Build a backbone with the weights asked for.

    Args:
        name: torchvision's name; None takes what a checkpoint says, or resnet18.
        weights: "default" (torchvision's own, downloaded once and checked by hash), "none"
            (random) or a file: a checkpoint of `pretrain`, safetensors or .pth of a state dict.
        image_size: side of the images that the backbone will see; None takes what a checkpoint
            says, else the size that torchvision's weights are for, and `foreign_size` for others.
        seed: of random weights.
        foreign_size: for weights that do not say what size they are for.

    Returns:
        The backbone in evaluation mode and a JSON-able record of where it is from.
    """
    if weights == "none":
        size = image_size or foreign_size
        return Backbone(name or "resnet18", size, seed).eval(), {"weights": "none"}
    if weights == "default":
        name = name or "resnet18"
        if name == CONV4:
            raise UsageError(
                "--weights default: there are none for conv4. Leave the flag out, or give a FILE "
                "that `fewshot-lite pretrain --backbone conv4` wrote."
            )
        backbone = Backbone(name, image_size or published_size(name))
        source = _load_torchvision_weights(backbone)
        return backbone.eval(), {"weights": source}
    return _load_from_file(name, Path(weights), image_size, foreign_size)


def published_size(name: str) -> int:
    """Side in pixels of the images that torchvision's weights of a network were evaluated on."""
    if name not in models.list_models(module=models):
        return 224  # building it will say what is wrong
    return int(published_weights(name).transforms().crop_size[0])


def _load_torchvision_weights(backbone: Backbone) -> str:
    entry = published_weights(backbone.name)
    _load_state(backbone, fetch(backbone.name), str(entry))
    transforms = entry.transforms()
    backbone.standardise(transforms.mean, transforms.std)
    return f"torchvision {entry}"


def _load_from_file(
    name: str | None, path: Path, image_size: int | None, foreign_size: int
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
    backbone = Backbone(name or "resnet18", image_size or foreign_size)
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
