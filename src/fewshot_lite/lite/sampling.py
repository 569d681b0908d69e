"""Sample the support images to back-propagate, with weights that keep the gradient unbiased.

Each sampler returns H of N indices with Horvitz–Thompson weights 1/π_n: the expectation of the
weighted sum over the sample is the sum over all images, whatever is summed. `balanced` adds
corrections of mean zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Chosen:
    """The support images to back-propagate."""

    indices: Tensor
    """int64 (H,), distinct, of 0..N-1."""
    weights: Tensor
    """float64 (H,), 1/π_n of each."""
    correction: Tensor | None = None
    """float64 (H, d), added to each weighted v_n; its contribution to the sum has mean zero."""


def everything(number: int) -> Chosen:
    """Choose all N images, for the exact gradient."""
    return Chosen(torch.arange(number), torch.ones(number, dtype=torch.float64))


def uniform(number: int, h: int, generator: torch.Generator) -> Chosen:
    """Draw H of N without replacement, with weights N/H (Bronskill et al. 2021, section 3)."""
    if h >= number:
        return everything(number)
    indices = torch.randperm(number, generator=generator)[:h].sort().values
    return Chosen(indices, torch.full((h,), number / h, dtype=torch.float64))


def informed(v: Tensor, labels: Tensor, h: int, generator: torch.Generator) -> Chosen:
    """Draw about H of N with π_n ∝ ‖v_n‖, capped at 1, to favour those that affect the loss more.

    Args:
        v: (N, d), v_n = ∂L/∂f_n of each image. If all are zero, `uniform` is used.
        labels: int64 (N,), classes of the images; the sample is spread over them.
    """
    number = len(v)
    if h >= number:
        return everything(number)
    probabilities = inclusion_probabilities(v.norm(dim=1), h)
    if probabilities is None:
        return uniform(number, h, generator)
    order = spread(v, labels)
    start = float(torch.rand((), dtype=torch.float64, generator=generator))
    chosen = systematic(probabilities[order], start)
    return Chosen(order[chosen.indices], chosen.weights)


def spread(v: Tensor, labels: Tensor) -> Tensor:
    """Order images so that neighbours are similar, int64 (N,), for systematic sampling.

    Images are ordered by class, and within a class along the first principal direction of its v_n,
    alternately up and down. The order affects the variance only: random order loses about half of
    informed sampling's gain over uniform (`benchmarks/accuracy/gradient_noise.py`).
    """
    v, labels = v.detach().to("cpu", torch.float64), labels.cpu()
    parts = []
    for position, label in enumerate(labels.unique()):
        members = (labels == label).nonzero().flatten()
        centred = v[members] - v[members].mean(0)
        # The leading eigenvector of the Gram matrix holds the projections, up to scale.
        along = torch.linalg.eigh(centred @ centred.mT).eigenvectors[:, -1]
        parts.append(members[along.argsort(descending=position % 2 == 1)])
    return torch.cat(parts)


@dataclass(frozen=True)
class Stratum:
    """Images from which a number is drawn uniformly."""

    members: Tensor
    """int64 (n,), indices of the images."""
    take: int
    """The number to draw, 1..n."""


def balanced(v: Tensor, h: int, generator: torch.Generator) -> Chosen:
    """Draw about H of N as `informed` does, and correct for the sample's error of Σ v_n.

    As far as the Jacobians of different images are similar, a sample's error comes from
    Σ v_n / π_n differing from Σ v_n, which is known. See `balance`.

    Args:
        v: (N, d), v_n = ∂L/∂f_n of each image. If all are zero, `uniform` is used.
    """
    number = len(v)
    if h >= number:
        return everything(number)
    strata = strata_by_size(v.norm(dim=1), h)
    if strata is None:
        return uniform(number, h, generator)
    picks = [
        stratum.members[torch.randperm(len(stratum.members), generator=generator)[: stratum.take]]
        for stratum in strata
    ]
    return balance(v, strata, picks)


def strata_by_size(sizes: Tensor, h: int) -> list[Stratum] | None:
    """Group images of similar size, with two or three drawn per stratum; None if all sizes are 0.

    Strata are cut so that inclusion is about proportional to size, as in `informed`; images that
    are certain to be drawn form the first stratum.
    """
    probabilities = inclusion_probabilities(sizes, h)
    if probabilities is None:
        return None
    order = probabilities.argsort(stable=True)
    order = order[probabilities[order] > 0]
    certain = order[probabilities[order] >= 1]
    others = order[probabilities[order] < 1]
    strata = [Stratum(certain, len(certain))] if len(certain) else []
    room = h - len(certain)
    if room == 0 or len(others) == 0:
        return strata
    number = max(1, room // 2)
    takes = [room // number + (k < room % number) for k in range(number)]
    shares = probabilities[others] / probabilities[others].sum() * room
    middles = shares.cumsum(0) - shares / 2
    edges = torch.tensor(takes, dtype=torch.float64).cumsum(0)[:-1]
    group = torch.bucketize(middles, edges)
    for k, take in enumerate(takes):
        members = others[group == k]
        if len(members):
            strata.append(Stratum(members, min(take, len(members))))
    return strata


def balance(v: Tensor, strata: Sequence[Stratum], picks: Sequence[Tensor]) -> Chosen:
    """Return the sample with weights n/take and corrections that balance it.

    The term w_m v_m of a drawn image m gets (w_m / N) Δ_m added, where Δ_m is the sum of all other
    v_n minus its estimate from the other drawn images. Given that m is drawn, Δ_m has mean zero, so
    the sum stays unbiased; if all Jacobians were equal, it would be exact. Of the n - 1 others in
    m's stratum take - 1 are drawn; if take is 1 < n they give no estimate and are left out of Δ_m.

    Args:
        v: (N, d).
        strata: disjoint; images in none have v_n = 0.
        picks: indices drawn from each, int64 (take,).
    """
    v = v.detach().to("cpu", torch.float64)
    drawn = torch.cat(list(picks))
    sums = [(v[s.members].sum(0), v[pick].sum(0)) for s, pick in zip(strata, picks, strict=True)]
    ratios = [len(stratum.members) / stratum.take for stratum in strata]
    errors = [total - r * partial for (total, partial), r in zip(sums, ratios, strict=True)]
    error = torch.stack(errors).sum(0)
    weights, corrections = [], []
    for k, (stratum, pick) in enumerate(zip(strata, picks, strict=True)):
        weight, number = ratios[k], len(stratum.members)
        total, partial = sums[k]
        delta = (error - errors[k]).expand(len(pick), -1)  # the other strata's error
        if stratum.take > 1:
            inner = (number - 1) / (stratum.take - 1)
            delta = delta + (total - v[pick]) - inner * (partial - v[pick])
        weights.append(torch.full((len(pick),), weight, dtype=torch.float64))
        corrections.append(weight / len(v) * delta)
    return Chosen(drawn, torch.cat(weights), torch.cat(corrections))


def inclusion_probabilities(sizes: Tensor, h: int) -> Tensor | None:
    """Return π_n ∝ size_n with Σ π_n = H, capped at 1: float64 (N,). None if all sizes are 0.

    With fewer than H images of positive size, these are certain and the rest have π_n = 0, which
    causes no bias, as they contribute zero.
    """
    sizes = sizes.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(sizes).all()) or float(sizes.sum()) == 0.0:
        return None
    certain = torch.zeros_like(sizes, dtype=torch.bool)
    while True:
        total, room = sizes[~certain].sum(), h - int(certain.sum())
        scaled = torch.where(certain, 1.0, sizes * (room / total if float(total) > 0 else 0.0))
        over = ~certain & (scaled >= 1)
        if not bool(over.any()):
            return scaled
        certain |= over


def systematic(probabilities: Tensor, start: float) -> Chosen:
    """Draw a systematic sample (Madow 1949).

    Image n is drawn if one of start, start + 1, ... falls into its interval of the cumulative
    probabilities, so it is drawn with probability exactly π_n, and the sample size is Σ π_n.

    Args:
        probabilities: float64 (N,), each at most 1.
        start: uniform in [0, 1).
    """
    ends = probabilities.cumsum(0)
    # The number of marks start, start + 1, ... below x is ceil(x - start).
    below = (ends - start).ceil()
    drawn = torch.diff(below, prepend=torch.tensor([-start], dtype=torch.float64).ceil()) > 0
    indices = (drawn & (probabilities > 0)).nonzero().flatten()
    return Chosen(indices, 1 / probabilities[indices])
