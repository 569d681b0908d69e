"""Which support images are back-propagated, and the weights that keep the gradient unbiased.

Each sampler returns H of N indices and the Horvitz–Thompson weight 1/π_n of each: the weighted sum
over the chosen has the sum over all as its expectation, whatever is summed. To this
`balanced` adds corrections of mean zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Chosen:
    """The images to back-propagate."""

    indices: Tensor
    """int64 (H,), of 0..N-1, each once."""
    weights: Tensor
    """float64 (H,), 1/π_n of each."""
    correction: Tensor | None = None
    """float64 (H, d), added to the weighted v_n of each; its part in the sum has mean zero."""


def everything(number: int) -> Chosen:
    """All N images: the exact gradient."""
    return Chosen(torch.arange(number), torch.ones(number, dtype=torch.float64))


def uniform(number: int, h: int, generator: torch.Generator) -> Chosen:
    """H of N without replacement, each with the weight N/H (Bronskill et al. 2021, section 3)."""
    if h >= number:
        return everything(number)
    indices = torch.randperm(number, generator=generator)[:h].sort().values
    return Chosen(indices, torch.full((h,), number / h, dtype=torch.float64))


def informed(v: Tensor, labels: Tensor, h: int, generator: torch.Generator) -> Chosen:
    """About H of N with π_n ∝ ‖v_n‖, capped at 1: images that move the loss more are seen more.

    Args:
        v: (N, d), v_n = ∂L/∂f_n of each image. All zero falls back to `uniform`.
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
    """An order in which neighbours are alike, int64 (N,): systematic sampling takes of every kind.

    By class, and within a class along the first principal direction of its v_n, up and down in
    turn. The order decides nothing but the variance: in random order about half of what informed
    sampling gains over uniform is lost (`benchmarks/accuracy/gradient_noise.py`).
    """
    v, labels = v.detach().to("cpu", torch.float64), labels.cpu()
    parts = []
    for position, label in enumerate(labels.unique()):
        members = (labels == label).nonzero().flatten()
        centred = v[members] - v[members].mean(0)
        # The largest eigenvector of the Gram matrix holds the projections, up to scale.
        along = torch.linalg.eigh(centred @ centred.mT).eigenvectors[:, -1]
        parts.append(members[along.argsort(descending=position % 2 == 1)])
    return torch.cat(parts)


@dataclass(frozen=True)
class Stratum:
    """Images of which some are drawn, each as likely as any other."""

    members: Tensor
    """int64 (n,)."""
    take: int
    """How many, 1..n."""


def balanced(v: Tensor, h: int, generator: torch.Generator) -> Chosen:
    """About H of N, informed, with what the sample misses of Σ v_n made up for.

    As far as the Jacobians of different images resemble each other, the error of a sample is that
    its Σ v_n / π_n is not Σ v_n, which is known. See `balance`.

    Args:
        v: (N, d), v_n = ∂L/∂f_n of each image. All zero falls back to `uniform`.
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
    """Images of like size together, two or three drawn of each stratum; None if all sizes are 0.

    Strata are cut so that images are taken about in proportion to their size, as in `informed`;
    those that are certain to be taken form a stratum of their own, which comes first.
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
    """Weights n/take, and corrections that balance the sample.

    To w_m v_m of a drawn image m is added (w_m / N) Δ_m, where Δ_m is the sum of the others' v_n
    minus its estimate from the others drawn. Given that m is drawn Δ_m has mean zero, so the sum
    stays unbiased; and were all Jacobians equal, it would be exact. The others of m's stratum are
    take - 1 of n - 1; where take is 1 < n they tell nothing, and are left out of Δ_m.

    Args:
        v: (N, d).
        strata: disjoint; images in none have v_n = 0.
        picks: indices drawn from each, int64 (take,).
    """
    v = v.detach().to("cpu", torch.float64)
    drawn = torch.cat(list(picks))
    sums = [(v[s.members].sum(0), v[pick].sum(0)) for s, pick in zip(strata, picks, strict=True)]
    ratios = [len(stratum.members) / stratum.take for stratum in strata]
    missed = [total - r * found for (total, found), r in zip(sums, ratios, strict=True)]
    everywhere = torch.stack(missed).sum(0)
    weights, corrections = [], []
    for k, (stratum, pick) in enumerate(zip(strata, picks, strict=True)):
        weight, number = ratios[k], len(stratum.members)
        total, found = sums[k]
        delta = (everywhere - missed[k]).expand(len(pick), -1)  # what other strata miss
        if stratum.take > 1:
            inner = (number - 1) / (stratum.take - 1)
            delta = delta + (total - v[pick]) - inner * (found - v[pick])
        weights.append(torch.full((len(pick),), weight, dtype=torch.float64))
        corrections.append(weight / len(v) * delta)
    return Chosen(drawn, torch.cat(weights), torch.cat(corrections))


def inclusion_probabilities(sizes: Tensor, h: int) -> Tensor | None:
    """π_n ∝ size_n with Σ π_n = H, capped at 1: float64 (N,). None if no image has a size.

    With fewer than H images of positive size, those are certain and the rest have π_n = 0, which
    biases nothing: what they would add is zero.
    """
    sizes = sizes.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(sizes).all()) or float(sizes.sum()) == 0.0:
        return None
    certain = torch.zeros_like(sizes, dtype=torch.bool)
    while True:
        left, room = sizes[~certain].sum(), h - int(certain.sum())
        scaled = torch.where(certain, 1.0, sizes * (room / left if float(left) > 0 else 0.0))
        over = ~certain & (scaled >= 1)
        if not bool(over.any()):
            return scaled
        certain |= over


def systematic(probabilities: Tensor, start: float) -> Chosen:
    """Systematic sampling (Madow 1949): image n is taken once for each of start, start + 1, ...

    that falls into its interval of the cumulated probabilities, so each is taken with exactly π_n
    and the number taken is Σ π_n.

    Args:
        probabilities: float64 (N,), each at most 1.
        start: uniform in [0, 1).
    """
    ends = probabilities.cumsum(0)
    # Marks start, start + 1, ... that lie below x: ceil(x - start).
    below = (ends - start).ceil()
    taken = torch.diff(below, prepend=torch.tensor([-start], dtype=torch.float64).ceil()) > 0
    indices = (taken & (probabilities > 0)).nonzero().flatten()
    return Chosen(indices, 1 / probabilities[indices])
