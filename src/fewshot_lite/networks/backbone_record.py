"""A checkpoint's record of its backbone besides the weights, and the backbone made from it."""

from __future__ import annotations

from typing import Any

from fewshot_lite.core.tensor_files import image_size
from fewshot_lite.networks.backbone import Backbone


def describe_backbone(backbone: Backbone, size: int) -> dict[str, Any]:
    """JSON-able; what `described_backbone` builds it anew from.

    Args:
        size: side of the images it is used with.
    """
    return {
        "backbone": backbone.name,
        "image_size": size,
        "mean": backbone.mean.flatten().tolist(),
        "std": backbone.std.flatten().tolist(),
    }


def described_backbone(meta: dict[str, Any]) -> Backbone:
    """The backbone of a description, its weights still to be loaded.

    Raises:
        one of `damage.DAMAGE`: what no `describe_backbone` wrote.
    """
    backbone = Backbone(meta["backbone"], image_size(meta), initialise=False)
    backbone.standardise(meta["mean"], meta["std"])
    return backbone
