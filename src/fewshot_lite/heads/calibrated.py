"""Calibration of a head on its own support set: its temperature, and an offset for class sizes.

**Temperature.** Guo et al. 2017 ("On calibration of modern neural networks") fit a temperature on
held-out images; here each support photo is held out in turn. The factor t on the logits minimises

    N' mean_k mean_n∈k -log softmax(t · logits of n, left out)[k] + (log t)² / 2σ²,   σ = 0.5,

so that a few photos move the head's own temperature little, and many as far as they ask for.
Classes weigh the same; N' = K² / Σ 1/n_k is the number of photos of a balanced set whose mean over
classes is as certain, N where classes have as many photos each. The frames of a clip are held out
together and count as one photo.

**Counts.** The mean of n features lies trace(Σ) / n further from every query (in squared distance)
than the mean of infinitely many: so a class of 40 photos is nearer than one of 2 to photos of
either. Heads of all kinds show it. In the mean of three heads, which is the default, it goes about
as 1 / √n: by that law c is about the same whether a class has 2 or 10. It is added to the logits,

    logit_k = t (head's logit_k + c / √n_k),

with c from the support set: a class of many photos is reduced to as few as the rarest class has,
the head is fitted again, and its logit of the photos taken out is compared with that of leaving
one out. On photos of other classes this logit falls by as much; on its own photos the other
classes' logits rise as well, and half of that rise is added, so that own and other photos lose
alike. Where all classes have as many photos, nothing changes. In files made before 0.2 the offset
is c / n_k.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fewshot_lite.heads import calibration, leave_one_out
from fewshot_lite.heads.array_head import ArrayHead, DescribedHead
from fewshot_lite.heads.base import Head, Statistics, SupportSet
from fewshot_lite.heads.in_numpy import (
    COUNT_POWER,
    Array,
    Logits,
    Support,
    as_array,
    checked_power,
    state_of,
)
from fewshot_lite.heads.leave_one_out import has_form


class CalibratedHead(Head):
    """logit_k(q) = t (l_k(q) + c / n_k) of another head's logits l; see the module's text."""

    kind: ClassVar[str] = "calibrated"
    factor: Tensor
    count_offset: Tensor

    def __init__(
        self,
        head: Head,
        factor: float = 1.0,
        count_offset: float = 0.0,
        count_power: float = COUNT_POWER,
    ) -> None:
        """Put the factor t and the count offset c, divided by n to `count_power`, on a head.

        Raises:
            ValueError: `count_power` is not from 0 to 1.
        """
        super().__init__()
        self.head, self.count_power = head, checked_power(count_power)
        self.register_buffer("factor", torch.tensor(factor))
        self.register_buffer("count_offset", torch.tensor(count_offset))

    @property
    def name(self) -> str:
        return self.head.name

    @property
    def temperature_factor(self) -> float:
        return float(self.factor)

    def recalibrated(self, support: SupportSet) -> CalibratedHead:
        return calibrate(self.head, support)

    def options(self) -> dict[str, Any]:
        return {"head": self.head.describe(), "count_power": self.count_power}

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """The head's statistics, and "counts" int64 (K,)."""
        statistics = self.head.fit(features, labels, classes)
        return statistics | {"counts": torch.bincount(labels, minlength=classes)}

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        logits = self.head.logits(statistics, features)
        counts = statistics["counts"].to(logits.dtype)
        return self.factor * (logits + self.count_offset / counts**self.count_power)


@torch.no_grad()
def calibrate(head: Head, support: SupportSet) -> CalibratedHead:
    """Calibrate a head, as it was learned, on a support set; t is 1 where none can be left out.

    Raises:
        ValueError: a class without images.
    """
    arrays = *support.arrays(), as_array(support.queries)
    constants = calibration.calibrate(as_array_head(head), *arrays)
    return CalibratedHead(head, *constants).to(support.features.device)


@torch.no_grad()
def likeliest_factor(logits: Tensor, labels: Tensor, groups: Tensor | None = None) -> float:
    """`calibration.likeliest_factor` on tensors."""
    return calibration.likeliest_factor(as_array(logits), as_array(labels), as_array(groups))


def as_array_head(head: Head) -> ArrayHead:
    """Return the head on arrays, run by torch if it has no form in NumPy."""
    description = head.describe()
    if not has_form(description):
        return TorchArrayHead(copy.deepcopy(head).cpu())
    return DescribedHead(description, state_of(head))


@dataclass(frozen=True)
class TorchArrayHead(ArrayHead):
    """A head without a form in NumPy, run by torch on the CPU."""

    head: Head

    @property
    def name(self) -> str:
        return self.head.name

    def fit(self, support: Support) -> Logits:
        features, labels, classes = support
        head = self.head
        statistics = head.fit(torch.from_numpy(features), torch.from_numpy(labels), classes)

        def logits(q: Array) -> Array:
            with torch.no_grad():
                values: Array = head.logits(statistics, torch.from_numpy(q)).numpy()
            return values

        return logits

    def leave_one_out_logits(self, support: Support, groups: Array | None = None) -> Array:
        features, labels, classes = support
        rows = torch.from_numpy(features), torch.from_numpy(labels)
        photos = None if groups is None else torch.from_numpy(groups)
        logits: Array = self.head.leave_one_out_logits(*rows, classes, photos).numpy()
        return logits

    def count_gain(self, counts: Array) -> Array:
        return leave_one_out.count_gain(self.head.describe(), state_of(self.head), counts)

    def calibrated(self, factor: float, count_offset: float) -> ArrayHead:
        return TorchArrayHead(CalibratedHead(self.head, factor, count_offset))
