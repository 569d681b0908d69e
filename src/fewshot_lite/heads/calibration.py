"""A temperature for a head from its own support set: of images left out, whose labels are known.

Guo et al. 2017 ("On calibration of modern neural networks") fit a temperature on held-out images;
here each support image is held out in turn. The factor t on the logits minimises

    Σ_n -log softmax(t · logits of n, left out)[y_n] + (log t)² / 2σ²,   σ = 0.5,

so that a few photos move the head's own temperature little, and many as far as they ask for.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.heads.leave_one_out import left_out_logits
from fewshot_lite.heads.registry import AnyHead

_SIGMA = 0.5
#: Factors that are tried: to e^±2 in steps of 2.5 %.
_GRID = torch.linspace(-2, 2, 161, dtype=torch.float64).exp()


@torch.no_grad()
def temperature_factor(head: AnyHead, features: Tensor, labels: Tensor, classes: int) -> float:
    """t; 1 where no image can be left out.

    Args:
        head: as it was learned.
        features: (N, d), of the support set.
        labels: int64 (N,) of 0..K-1, every class present.
        classes: K.

    Raises:
        ValueError: a class without images.
    """
    if int(torch.bincount(labels, minlength=classes).max()) < 2:
        return 1.0
    return likeliest_factor(left_out_logits(head, features, labels, classes), labels)


@torch.no_grad()
def likeliest_factor(logits: Tensor, labels: Tensor) -> float:
    """t, from logits (N, K) of images left out, NaN for those that were not; labels int64 (N,)."""
    logits = logits.double().cpu()
    known = logits.isfinite().all(1)
    if not bool(known.any()):
        return 1.0
    logits, targets = logits[known], labels.cpu()[known]
    costs = torch.stack(
        [F.cross_entropy(factor * logits, targets, reduction="sum") for factor in _GRID]
    )
    return float(_GRID[(costs + _GRID.log().square() / (2 * _SIGMA**2)).argmin()])


def scaled(head: AnyHead, factor: float) -> AnyHead:
    """A copy of a head whose logits are this many times as large."""
    head = copy.deepcopy(head)
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if name.rpartition(".")[2] == "log_temperature":
                parameter.add_(math.log(factor))
    return head
