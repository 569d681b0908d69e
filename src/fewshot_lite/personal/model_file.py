"""A personal model's file: its tensors and its description, read with every claim checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from fewshot_lite.core import checkpoint
from fewshot_lite.core.checkpoint import Checkpoint
from fewshot_lite.heads.array_head import DescribedHead
from fewshot_lite.heads.base import Head
from fewshot_lite.heads.in_numpy import as_array, check_head_tensors
from fewshot_lite.heads.registry import make_head
from fewshot_lite.networks.backbone import Backbone, describe_backbone, described_backbone
from fewshot_lite.personal.file_contents import Contents, check_contents
from fewshot_lite.personal.writing import write_personal


@dataclass(frozen=True)
class Parts:
    """The arguments of `PersonalModel`, by their names."""

    backbone: Backbone
    head: Head
    features: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    image_size: int
    provenance: dict[str, Any]
    photos: tuple[str, ...]
    support_strangeness: Tensor | None
    thumbnails: tuple[bytes, ...]
    leave_one_out_logits: Tensor | None
    groups: Tensor | None
    digests: Tensor | None


def read(file: Checkpoint, device: str) -> Parts:
    """The parts of a personal model, on a device.

    Raises:
        one of `core.errors.DAMAGE`: they do not belong together.
    """
    meta, tensors = file.meta, file.tensors
    networks = {name: v for name, v in tensors.items() if name.startswith("network.")}
    backbone = checkpoint.build(lambda: described_backbone(meta), networks)
    head = checkpoint.build(lambda: make_head(meta["head"]), checkpoint.under("head.", tensors))
    check_head_tensors({name: as_array(value) for name, value in head.state_dict().items()})
    support = {name: v.numpy() for name, v in tensors.items() if name.startswith("support.")}
    found = check_contents(meta, support, backbone.feature_dim)
    return Parts(
        backbone.to(device),
        head.to(device),
        torch.from_numpy(found.features).to(device),
        torch.from_numpy(found.labels).to(device),
        found.class_names,
        found.image_size,
        found.provenance,
        found.photos,
        _on(device, found.support_strangeness),
        found.thumbnails,
        _on(device, found.leave_one_out_logits),
        _on(device, found.groups),
        _on(device, found.digests),
    )


def _on(device: str, values: npt.NDArray[Any] | None) -> Tensor | None:
    return None if values is None else torch.from_numpy(values).to(device)


def write(path: Path, parts: Parts, *, force: bool) -> None:
    """Write the parts of a personal model; see `writing.write_personal`."""
    backbone = parts.backbone
    contents = Contents(
        parts.class_names,
        parts.image_size,
        parts.provenance,
        parts.photos,
        as_array(parts.features),
        as_array(parts.labels),
        None if parts.support_strangeness is None else as_array(parts.support_strangeness),
        None if parts.leave_one_out_logits is None else as_array(parts.leave_one_out_logits),
        parts.thumbnails,
        None if parts.groups is None else as_array(parts.groups),
        None if parts.digests is None else as_array(parts.digests),
    )
    network, head = (
        {name: as_array(value) for name, value in module.state_dict().items()}
        for module in (backbone.network, parts.head)
    )
    about = describe_backbone(backbone, parts.image_size)
    described = DescribedHead(parts.head.describe(), head)
    write_personal(path, about, network, described, contents, force=force)
