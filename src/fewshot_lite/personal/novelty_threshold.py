"""The novelty score above which a photo is of none of the classes; this does not import torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from fewshot_lite.heads.array_head import DescribedHead
from fewshot_lite.heads.in_numpy import Array, scaled
from fewshot_lite.personal.prediction import check_reject

#: Length that features are scaled to before scoring; β is 1, a hundredth of its square.
LENGTH = 10.0
#: Scores up to this may be rounding, as of a photo that is in the support set many times over.
_ROUNDING = 0.01


def class_weights(shots: Array) -> Array:
    """Return the weights of the distances to classes with these shots, (K,); see `novelty`."""
    weights: Array = shots / (shots + 1) * (shots.max() + 1) / shots.max()
    return weights


def novelty_of_support(
    features: Array, labels: Array, classes: int, groups: Array | None = None
) -> Array:
    """Return the leave-one-out novelty score of each support photo, float32 (N,).

    Args:
        features: float32 (N, d).
        labels: int64 (N,) of 0..K-1, every class present.
        classes: K.
        groups: int64 (N,), rows of one number are left out together (`heads.groups`).

    Returns:
        The scores; NaN for the only photo, or clip, of a class.
    """
    one = np.zeros((), np.float32)  # β = 1; at τ = 1 a logit is minus a distance
    head = DescribedHead({"name": "mahalanobis"}, {"log_beta": one, "log_temperature": one})
    logits = head.leave_one_out_logits((scaled(features, LENGTH), labels, classes), groups)
    weights = class_weights(np.bincount(labels, minlength=classes))
    scores: Array = (-weights * logits).min(1).astype(np.float32)
    return scores


def threshold(
    support_scores: Sequence[float], reject: float, groups: Sequence[int] | None = None
) -> float:
    """Return the novelty score above which a photo is unknown.

    With enough photos it is the quantile at rank (N + 1) (1 - reject) of the leave-one-out scores,
    beyond which a new photo of the same kind lies with probability `reject`, however scores are
    distributed (conformal prediction; Vovk et al. 2005). Where that rank is above N (at 0.05, below
    20 photos), it is the one-sided Student prediction bound on the square roots of the scores, as
    if these distances were normal.

    Frames of one clip are not exchangeable with those of others, clips are: N counts clips, and a
    clip of f frames has 1/f of a rank in each (Dunn, Wasserman and Ramdas, "Distribution-Free
    Prediction Sets for Two-Layer Hierarchical Models", JASA 2023).

    Args:
        support_scores: N leave-one-out scores of `novelty_of_support`; NaN where unknown.
        reject: the share of one's own photos that may be called unknown, from 0 to below 1.
        groups: N numbers, equal for photos that were left out together; None: each was alone.

    Returns:
        The threshold; infinity if `reject` is 0 or no score is known.

    Raises:
        UsageError: `reject` is out of range.
    """
    check_reject(reject)
    numbers = range(len(support_scores)) if groups is None else groups
    frames = Counter(numbers)
    known = sorted(
        (score, 1 / frames[group])
        for score, group in zip(support_scores, numbers, strict=True)
        if not math.isnan(score)
    )
    if reject == 0 or not known:
        return math.inf
    number = round(math.fsum(weight for _, weight in known))
    rank = (number + 1) * (1 - reject)
    if rank < number:
        return max(_at_rank(known, rank), _ROUNDING)
    distances = [(math.sqrt(max(score, 0.0)), weight) for score, weight in known]
    mean = math.fsum(weight * distance for distance, weight in distances) / number
    squares = (weight * (distance - mean) ** 2 for distance, weight in distances)
    variance = math.fsum(squares) / (number - 1)
    spread = math.sqrt(variance * (1 + 1 / number))
    bound = mean + student_quantile(1 - reject, number - 1) * spread
    return max(bound**2, _ROUNDING)


def _at_rank(known: Sequence[tuple[float, float]], rank: float) -> float:
    """Return the value at a rank, interpolated, from sorted values with their shares of a rank."""
    before, reached = known[0][0], 0.0
    for value, weight in known:
        if rank <= reached + weight:
            return before + max(rank - reached, 0.0) / weight * (value - before)
        before, reached = value, reached + weight
    return before


def student_quantile(p: float, freedom: int) -> float:
    """Return a quantile of Student's t: exact for 1 and 2 degrees of freedom, else to about 1 %.

    Cornish-Fisher expansion (Abramowitz & Stegun 1964, 26.7.5).
    """
    if freedom == 1:
        return math.tan(math.pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    from statistics import NormalDist  # not cheap to import, and seldom needed

    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / float(freedom) ** (i + 1) for i, term in enumerate(terms))
