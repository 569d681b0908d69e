"""Load the weights of backbones: published ones, a file, or random ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import TAKE_ANOTHER, FewshotError, UsageError
from fewshot_lite.core.files import check_there
from fewshot_lite.core.text import some_of
from fewshot_lite.networks import timm_models
from fewshot_lite.networks.architectures import CONV4, preprocessing
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.downloads import fetch, published_weights
from fewshot_lite.networks.efficientnet_lite import (
    EfficientNetLite,
    package_file,
    renamed,
)
from fewshot_lite.networks.lite_layout import VARIANTS
from fewshot_lite.networks.names import TIMM

#: The default network.
DEFAULT = "resnet18"
#: Tensors named in a message.
_NAMED = 3


def load_backbone(
    name: str | None,
    weights: str,
    image_size: int | None,
    *,
    seed: int = 0,
    foreign_size: int | None = 96,
    flag: str = "--weights",
) -> tuple[Backbone, dict[str, Any]]:
    """Build a backbone and load its weights.

    Args:
        name: as for `Backbone`; None for the one in the checkpoint, or resnet18.
        weights: "default" (the published ones, from a package or downloaded once, and checked by
            hash), "none" (random), or a file: a checkpoint of `pretrain`, or a state dict as
            safetensors or .pth.
        image_size: side of the images; None for that of the checkpoint, of the published weights,
            or else `foreign_size`.
        seed: of random weights.
        foreign_size: for weights without a recorded size; None for that of the published weights.
        flag: the flag that named the weights, for error messages.

    Returns:
        The backbone in evaluation mode, and a JSON-able record of the weights' origin.
    """
    if weights == "none":
        name = name or DEFAULT
        size = image_size or foreign_size or preprocessing(name).size
        return Backbone(name, size, seed).eval(), {"weights": "none"}
    if weights == "default":
        name = name or DEFAULT
        if name == CONV4:
            raise UsageError(
                "--weights default: there are none for conv4. Leave the flag out, or give a FILE "
                "that `fewshot-lite pretrain --backbone conv4` wrote."
            )
        backbone = Backbone(name, image_size or preprocessing(name).size)
        tensors, record = _published(name, backbone.image_size)
        _load_state(backbone, tensors, record["weights"])
        return backbone.eval(), record
    return _load_from_file(name, Path(weights), image_size, foreign_size, flag)


def _published(name: str, image_size: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the state dict of a network's published weights, and a record of their origin."""
    if name.startswith(TIMM):
        return timm_models.fetch(name, image_size)
    if name in VARIANTS:
        path = package_file(name)
        return _read_pth(path), {"weights": path.name, "sha256": VARIANTS[name].sha256}
    return fetch(name), {"weights": f"torchvision {published_weights(name)}"}


def _load_from_file(
    name: str | None, path: Path, image_size: int | None, foreign_size: int | None, flag: str
) -> tuple[Backbone, dict[str, Any]]:
    check_there(path, f"{flag} {path}", remedy="Give a file or 'default'.")
    if path.is_dir():
        raise UsageError(f"{flag} {path}: a folder. Give a file or 'default'.")
    record: dict[str, Any] = {"weights": path.name, "sha256": checkpoint.sha256(path)}
    if path.suffix == ".safetensors":
        tensors, meta = checkpoint.read_any(path)
        if meta is not None:
            if meta.get("kind") != "backbone":
                raise UsageError(
                    f"{flag} {path}: a {meta.get('kind')} file, not a backbone. "
                    "Give what `fewshot-lite pretrain` wrote."
                )
            held, size = meta.get("backbone"), meta.get("image_size")
            if not (isinstance(held, str) and isinstance(size, int)):
                raise FewshotError(f"{flag} {path}: its description is damaged. {TAKE_ANOTHER}")
            if name not in (None, held):
                raise UsageError(
                    f"--backbone {name} does not match {flag} {path}, which holds a "
                    f"{held}. Leave --backbone out."
                )
            name, image_size = held, image_size or size
            record["pretrained"] = meta
    else:
        tensors = _read_pth(path, flag)
    name = name or DEFAULT
    backbone = Backbone(name, image_size or foreign_size or preprocessing(name).size)
    _load_state(backbone, tensors, str(path))
    return backbone.eval(), record


def _read_pth(path: Path, flag: str = "--weights") -> dict[str, Tensor]:
    """Read a state dict saved by torch.save, unpickling only tensors."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # many types, and torch's messages advise unsafe loading
        raise FewshotError(
            f"{flag} {path}: damaged, or it holds more than tensors and is not safe to read. "
            "Save the network's state_dict() with torch.save, or use safetensors."
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not (
        isinstance(state, dict)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    ):
        raise FewshotError(
            f"{flag} {path}: holds no state dict (names -> tensors). Save the network's "
            "state_dict() with torch.save."
        )
    return state


def _load_state(backbone: Backbone, tensors: dict[str, Tensor], source: str) -> None:
    """Load a state dict into the network, ignoring its classification layer."""
    expected = backbone.network.state_dict()
    if isinstance(backbone.network, EfficientNetLite):
        tensors = renamed(tensors, last=len(backbone.network.features) - 1)
    state = {key.removeprefix("network."): value for key, value in tensors.items()}
    problem = _mismatch(expected, state)
    if problem:
        raise FewshotError(
            f"{source}: not the weights of a {backbone.name} ({problem}). Give this network's, "
            f"made for images of {backbone.image_size} px, or name the network that they are of."
        )
    kept = {key: value for key, value in state.items() if key in expected}
    backbone.network.load_state_dict(kept, strict=False)


def _mismatch(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Describe tensors that are missing or of another shape; "" if none, batch counters aside."""
    missing = [key for key in expected if key not in state and "num_batches" not in key]
    if missing:
        return f"{some_of(missing, _NAMED)} {'is' if len(missing) == 1 else 'are'} missing"
    other = [key for key in expected if key in state and state[key].shape != expected[key].shape]
    if not other:
        return ""
    shapes = f"{[*state[other[0]].shape]}, not {[*expected[other[0]].shape]}"
    if len(other) == 1:
        return f"{other[0]!r} has another shape: {shapes}"
    return f"{some_of(other, _NAMED)} have other shapes, the first {shapes}"
