"""A personal model's file is written here, by whichever engine made it; this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fewshot_lite import __version__
from fewshot_lite.core import tensor_files
from fewshot_lite.heads.array_head import DescribedHead
from fewshot_lite.heads.in_numpy import Array
from fewshot_lite.images.thumbnails import packed
from fewshot_lite.personal.file_contents import Contents


def write_personal(
    path: Path,
    backbone: Mapping[str, Any],
    network: Mapping[str, Array],
    head: DescribedHead,
    contents: Contents,
    *,
    force: bool,
) -> None:
    """Write a personal model, whole or not at all.

    Args:
        backbone: what `networks.backbone.describe_backbone` says.
        network: state of the network.
        head: the head.
        contents: all else.
        force: `path` may be there at the end.

    Raises:
        FewshotError: it cannot be written.
    """
    tensors = {f"network.{name}": _narrow(value) for name, value in network.items()}
    tensors |= {f"head.{name}": value for name, value in head.tensors.items()}
    tensors |= {"support.features": contents.features, "support.labels": contents.labels}
    if contents.support_strangeness is not None:
        tensors["support.left_out"] = contents.support_strangeness
    if contents.leave_one_out_logits is not None:
        tensors["support.left_out_logits"] = contents.leave_one_out_logits
    if contents.groups is not None:
        tensors["support.groups"] = contents.groups
    if contents.digests is not None:
        tensors["support.digests"] = contents.digests
    if contents.thumbnails:
        joined, sizes = packed(contents.thumbnails)
        tensors |= {"support.thumbnails": joined, "support.thumbnail_sizes": sizes}
    meta = {
        "version": __version__,
        **backbone,
        "head": dict(head.description),
        "class_names": list(contents.class_names),
        "shots": np.bincount(contents.labels, minlength=len(contents.class_names)).tolist(),
        "photos": list(contents.photos),
        "thumbnails": sum(map(bool, contents.thumbnails)),
        "provenance": contents.provenance,
    }
    tensor_files.write(path, "personal", tensors, meta, force=force)


def _narrow(values: Array) -> Array:
    """Half precision where nothing is lost by it, as for weights that a base stored in half."""
    if values.dtype != np.float32 or values.ndim < 2:
        return values
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), values) else values
