"""A personal model's file: its tensors and its description, read with every claim checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot_lite import __version__
from fewshot_lite.core import checkpoint
from fewshot_lite.core.checkpoint import Checkpoint
from fewshot_lite.heads.base import Head
from fewshot_lite.heads.registry import make_head
from fewshot_lite.images.thumbnails import packed, unpacked
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.backbone_record import describe_backbone, described_backbone


@dataclass(frozen=True)
class Parts:
    """What `PersonalModel` is put together from, by the names of its arguments."""

    backbone: Backbone
    head: Head
    features: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    image_size: int
    provenance: dict[str, Any]
    photos: tuple[str, ...]
    left_out: Tensor | None
    thumbnails: tuple[bytes, ...]
    left_out_logits: Tensor | None


def read(file: Checkpoint, device: str) -> Parts:
    """The parts of a personal model, on a device.

    Raises:
        one of `damage.DAMAGE`: they do not belong together.
    """
    meta, tensors = file.meta, file.tensors
    networks = {name: v for name, v in tensors.items() if name.startswith("network.")}
    backbone = checkpoint.build(lambda: described_backbone(meta), networks)
    head = checkpoint.build(lambda: make_head(meta["head"]), checkpoint.under("head.", tensors))
    if not all(bool(v.isfinite().all()) for v in head.state_dict().values()):
        raise ValueError("head is not finite")
    names = meta["class_names"]
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError("class_names is no list of names")
    features, labels = tensors["support.features"], tensors["support.labels"]
    _check_support(features, labels, len(names), backbone.feature_dim)
    photos = meta.get("photos", [])
    if not all(isinstance(photo, str) for photo in photos) or len(photos) not in (0, len(labels)):
        raise ValueError("photos do not fit support.labels")
    left_out = tensors.get("support.left_out")
    if left_out is not None:
        _check_left_out(left_out, labels)
        left_out = left_out.to(device)
    logits = tensors.get("support.left_out_logits")
    if logits is not None:
        _check_left_out_logits(logits, labels, len(names))
        logits = logits.to(device)
    jpegs = _thumbnails(tensors, len(labels))
    return Parts(
        backbone.to(device),
        head.to(device),
        features.to(device),
        labels.to(device),
        tuple(names),
        checkpoint.image_size(meta),
        meta["provenance"],
        tuple(photos),
        left_out,
        jpegs,
        logits,
    )


def write(path: Path, parts: Parts, *, force: bool) -> None:
    """Write the parts of a personal model; see `checkpoint.save`."""
    backbone = parts.backbone
    tensors = {f"network.{k}": _narrow(v) for k, v in backbone.network.state_dict().items()}
    tensors |= {f"head.{k}": v for k, v in parts.head.state_dict().items()}
    tensors |= {"support.features": parts.features, "support.labels": parts.labels}
    if parts.left_out is not None:
        tensors["support.left_out"] = parts.left_out
    if parts.left_out_logits is not None:
        tensors["support.left_out_logits"] = parts.left_out_logits
    if parts.thumbnails:
        joined, sizes = packed(parts.thumbnails)
        tensors["support.thumbnails"] = torch.from_numpy(joined)
        tensors["support.thumbnail_sizes"] = torch.from_numpy(sizes)
    meta = {
        "version": __version__,
        **describe_backbone(backbone, parts.image_size),
        "head": parts.head.describe(),
        "class_names": list(parts.class_names),
        "shots": torch.bincount(parts.labels, minlength=len(parts.class_names)).tolist(),
        "photos": list(parts.photos),
        "thumbnails": sum(map(bool, parts.thumbnails)),
        "provenance": parts.provenance,
    }
    checkpoint.save(path, "personal", tensors, meta, force=force)


def _narrow(tensor: Tensor) -> Tensor:
    """Half precision where nothing is lost by it, as for weights that a base stored in half."""
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return tensor
    half = tensor.half()
    return half if torch.equal(half.float(), tensor) else tensor


def _check_support(features: Tensor, labels: Tensor, classes: int, width: int) -> None:
    """ValueError if they are not the features and labels of every class's photos."""
    if labels.dtype != torch.int64 or set(labels.tolist()) != set(range(classes)):
        raise ValueError("support.labels do not fit the class names")
    whole = features.ndim == 3 and features.shape[::2] == (len(labels), width)
    if features.dtype != torch.float32 or not whole or features.shape[1] < 1:
        raise ValueError("support.features has another shape or type")
    if not bool(features.isfinite().all()):
        raise ValueError("support.features are not finite")


def _check_left_out(left_out: Tensor, labels: Tensor) -> None:
    """ValueError if it does not fit the support set."""
    shots = torch.bincount(labels)[labels]
    if left_out.dtype != torch.float32 or left_out.shape != labels.shape:
        raise ValueError("support.left_out has another shape or type")
    if not torch.equal(left_out.isfinite(), shots > 1):
        raise ValueError("support.left_out is not finite")


def _check_left_out_logits(logits: Tensor, labels: Tensor, classes: int) -> None:
    """ValueError if they do not fit the support set."""
    if logits.dtype != torch.float32 or logits.shape != (len(labels), classes):
        raise ValueError("support.left_out_logits has another shape or type")
    shots = torch.bincount(labels)[labels]
    if not torch.equal(logits.isfinite(), (shots > 1)[:, None].expand_as(logits)):
        raise ValueError("support.left_out_logits are not finite")


def _thumbnails(tensors: dict[str, Tensor], number: int) -> tuple[bytes, ...]:
    """The support photos' thumbnails, if the file has any; ValueError if they do not fit."""
    if "support.thumbnails" not in tensors:
        return ()
    joined, sizes = tensors["support.thumbnails"], tensors["support.thumbnail_sizes"]
    if joined.dtype != torch.uint8 or joined.ndim != 1:
        raise ValueError("support.thumbnails has another shape or type")
    if sizes.dtype != torch.int64 or sizes.shape != (number,):
        raise ValueError("support.thumbnail_sizes do not fit support.labels")
    return unpacked(joined.numpy(), sizes.tolist())
