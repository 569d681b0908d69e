"""Choose the head of a personal model, as a module of torch's; `choosing` does the work."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from fewshot_lite.core.config import HeadName
from fewshot_lite.heads.adapted import AdaptedHead
from fewshot_lite.heads.array_head import ArrayHead, DescribedHead
from fewshot_lite.heads.base import Head, Statistics, SupportSet
from fewshot_lite.heads.calibrated import (
    CalibratedHead,
    TorchArrayHead,
    as_array_head,
    likeliest_factor,
)
from fewshot_lite.heads.choosing import Chosen, choose
from fewshot_lite.heads.in_numpy import as_array
from fewshot_lite.heads.registry import make_head

#: A head of torch's, and how it was chosen.
Choice: TypeAlias = Chosen[Head]


@torch.no_grad()
def choose_head(name: HeadName, base_head: Head, support: SupportSet) -> Choice:
    """Choose a head for a support set and calibrate it, as `choosing.choose`.

    Raises:
        ValueError: a class without images.
    """
    arrays = *support.arrays(), as_array(support.queries)
    chosen = choose(name, as_array_head(base_head), *arrays)
    head = as_torch_head(chosen.head).to(support.features.device)
    return Choice(head, chosen.name, chosen.accuracies, name, chosen.factor, chosen.alone)


def as_torch_head(head: ArrayHead) -> Head:
    """Return the torch module of a head; the inverse of `calibrated.as_array_head`."""
    if isinstance(head, TorchArrayHead):
        return head.head
    assert isinstance(head, DescribedHead)
    module = make_head(dict(head.description))
    module.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in head.tensors.items()})
    return module


def adapted_choice(
    statistics: Statistics, left_out: Tensor, labels: Tensor, groups: Tensor | None
) -> Choice:
    """Calibrate the head that gradient steps adapted together with the backbone.

    Args:
        statistics: its "weight" (K, d) and "bias" (K,).
        left_out: logits (N, K) of the support images by models adapted without them.
        labels: int64 (N,) of 0..K-1.
        groups: int64 (N,), rows of one number were left out together.
    """
    factor = likeliest_factor(left_out, labels, groups)
    head = AdaptedHead.of(statistics["weight"], statistics["bias"], factor)
    return Choice(head, head.name, factor=factor)


def refitted_choice(
    choice: Choice, left_out: Tensor, labels: Tensor, groups: Tensor | None
) -> Choice:
    """Calibrate a head on photos left out of the whole adaptation, not of the head alone.

    Args:
        choice: a head fitted to features that were adapted to the labels of its photos, so that
            its own temperature would be too sure.
        left_out: logits (N, K) of the support images by models adapted without them, by heads that
            are `untempered`.
        labels: int64 (N,) of 0..K-1.
        groups: int64 (N,), rows of one number were left out together.
    """
    factor = likeliest_factor(left_out, labels, groups)
    return replace(choice, head=untempered(choice, factor), factor=factor)


def untempered(choice: Choice, factor: float = 1.0) -> CalibratedHead:
    """Return the head of a choice with another factor in the place of the calibrated one."""
    head = choice.head
    assert isinstance(head, CalibratedHead)
    other = CalibratedHead(head.head, factor, float(head.count_offset), head.count_power)
    return other.to(head.factor.device)
