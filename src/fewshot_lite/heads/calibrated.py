"""A head made to fit its own support set: its temperature, and what a class gains by many photos.

**Temperature.** Guo et al. 2017 ("On calibration of modern neural networks") fit a temperature on
held-out images; here each support photo is held out in turn. The factor t on the logits minimises

    N' mean_k mean_n∈k -log softmax(t · logits of n, left out)[k] + (log t)² / 2σ²,   σ = 0.5,

so that a few photos move the head's own temperature little, and many as far as they ask for.
Classes weigh the same; N' = K² / Σ 1/n_k is the number of photos of a balanced set whose mean over
classes is as certain, N where classes have as many photos each.

**Counts.** The mean of n features lies trace(Σ) / n further from every query (in squared distance)
than the mean of infinitely many: so a class of 40 photos is nearer than one of 2 to photos of
either. Heads of all kinds show it, and about as c / n, which is added to the logits:

    logit_k = t (head's logit_k + c / n_k),

with c from the support set: a class of many photos is reduced to as few as the rarest class has,
the head is fitted again, and its logit of the photos taken out is compared with that of leaving
one out. Where all classes have as many photos, nothing changes.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from fewshot_lite.heads.base import Head, Statistics

_SIGMA = 0.5
#: Factors that are tried: to e^±2 in steps of 2.5 %.
_GRID = torch.linspace(-2, 2, 161, dtype=torch.float64).exp()
#: Fits to reduced classes, of all classes and of one: they cost as much as leaving out.
_REFITS, _OF_A_CLASS = 16, 8


class CalibratedHead(Head):
    """logit_k(q) = t (l_k(q) + c / n_k) of another head's logits l; see the module's text."""

    kind: ClassVar[str] = "calibrated"
    factor: Tensor
    count_offset: Tensor

    def __init__(self, head: Head, factor: float = 1.0, count_offset: float = 0.0) -> None:
        """Put the factor t and the count offset c on a head."""
        super().__init__()
        self.head = head
        self.register_buffer("factor", torch.tensor(factor))
        self.register_buffer("count_offset", torch.tensor(count_offset))

    @property
    def name(self) -> str:
        return self.head.name

    @property
    def temperature_factor(self) -> float:
        return float(self.factor)

    def recalibrated(
        self, features: Tensor, labels: Tensor, classes: int, groups: Tensor | None = None
    ) -> CalibratedHead:
        return calibrate(self.head, features, labels, classes, groups)

    def options(self) -> dict[str, Any]:
        return {"head": self.head.describe()}

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """The head's statistics, and "counts" int64 (K,)."""
        statistics = self.head.fit(features, labels, classes)
        return statistics | {"counts": torch.bincount(labels, minlength=classes)}

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        logits = self.head.logits(statistics, features)
        return self.factor * (logits + self.count_offset / statistics["counts"])

    def _leave_one_out(
        self, features: Tensor, labels: Tensor, classes: int, rows: Tensor
    ) -> Tensor:
        logits = self.head._leave_one_out(features, labels, classes, rows)
        counts = torch.bincount(labels, minlength=classes).expand(len(rows), 1, classes).clone()
        own = labels[rows[:, 0]]
        counts[torch.arange(len(rows), device=own.device), 0, own] -= rows.shape[1]
        offsets = self.count_offset / counts
        return float(self.factor) * (logits + offsets.to(logits))


@torch.no_grad()
def calibrate(
    head: Head, features: Tensor, labels: Tensor, classes: int, groups: Tensor | None = None
) -> CalibratedHead:
    """The head with its t and c for a support set; t = 1 where no photo can be left out.

    Args:
        head: as it was learned.
        features: (N, d).
        labels: int64 (N,) of 0..K-1, every class present.
        classes: K.
        groups: int64 (N,), the photo of each row; see `Head.leave_one_out_logits`. t is that of the
            first row of each.

    Raises:
        ValueError: a class without images.
    """
    leave_one_out = head.leave_one_out_logits(features, labels, classes, groups)
    offset = _count_offset(head, features, labels, classes, groups, leave_one_out)
    shifted = CalibratedHead(head, count_offset=offset).to(features.device)
    if offset:
        leave_one_out = shifted.leave_one_out_logits(features, labels, classes, groups)
    first = _first_rows(groups, labels)
    factor = likeliest_factor(leave_one_out[first], labels[first])
    return CalibratedHead(head, factor, offset).to(features.device)


def _first_rows(groups: Tensor | None, labels: Tensor) -> Tensor:
    """The first row of each photo, int64: as queries are seen; more would count it as several."""
    rows = torch.arange(len(labels), device=labels.device)
    if groups is None:
        return rows
    photos, photo = groups.unique(return_inverse=True)
    return rows.new_full((len(photos),), len(labels)).scatter_reduce(0, photo, rows, "amin")


@torch.no_grad()
def likeliest_factor(logits: Tensor, labels: Tensor) -> float:
    """t, from logits (N, K) of photos left out, NaN for those that were not; labels int64 (N,)."""
    known = logits.isfinite().all(1).cpu()
    if not bool(known.any()):
        return 1.0
    shots = torch.bincount(labels.cpu()[known], minlength=logits.shape[1]).double()
    certain = len(shots) ** 2 / (1 / shots.clamp(min=1)).sum()
    logits, labels = logits.double().cpu()[known], labels.cpu()[known]
    weights = certain / (shots[labels] * (shots > 0).sum())  # (N,)
    costs = scaled_cross_entropies(logits, labels, _GRID) @ weights
    return float(_GRID[(costs + _GRID.log().square() / (2 * _SIGMA**2)).argmin()])


def scaled_cross_entropies(logits: Tensor, labels: Tensor, factors: Tensor) -> Tensor:
    """Cross-entropies (F, N) of logits (N, K) times each of F factors above 0, labels int64 (N,).

    All products have one place in memory: a new one for each factor made the process as large as
    all of them together (3 GB at 1,000 classes of 2 photos), as the allocator did not find the
    places of earlier ones fit.
    """
    logits = logits - logits.amax(1, keepdim=True)  # so that no exponential overflows
    own = logits.gather(1, labels[:, None])[:, 0]
    scaled, found = torch.empty_like(logits), logits.new_empty(len(factors), len(labels))
    for row, factor in zip(found, factors.tolist(), strict=True):
        torch.mul(logits, factor, out=scaled)
        torch.sum(scaled.exp_(), 1, out=row)
        row.log_().sub_(own, alpha=factor)
    return found


def _count_offset(
    head: Head,
    features: Tensor,
    labels: Tensor,
    classes: int,
    groups: Tensor | None,
    leave_one_out: Tensor,
) -> float:
    """c by least squares over the classes that have more photos than the rarest, 0 without any."""
    if groups is None:
        groups = torch.arange(len(labels), device=labels.device)
    photos = [groups[labels == k].unique() for k in range(classes)]
    fewest = min(len(numbers) for numbers in photos)
    larger = [k for k in range(classes) if len(photos[k]) > fewest + 1]
    larger = sorted(larger, key=lambda k: -len(photos[k]))[:_REFITS]
    product = square = 0.0
    for k in larger:
        times = min(_OF_A_CLASS, _REFITS // len(larger), len(photos[k]) // fewest) or 1
        of_class = labels == k
        for start in range(times):
            kept = photos[k][start::times][:fewest]
            inside = torch.isin(groups, kept)
            out = of_class & ~inside
            rows = ~of_class | inside
            statistics = head.fit(features[rows], labels[rows], classes)
            less = leave_one_out[out, k] - head.logits(statistics, features[out])[:, k]
            # A photo left out leaves the rows of the class without its own.
            own = (groups[out][:, None] == groups[of_class]).sum(1)
            gap = 1 / (of_class & inside).sum() - 1 / (of_class.sum() - own)
            product += float((less * gap).mean())
            square += float(gap.square().mean())
    return max(0.0, product / square) if square else 0.0
