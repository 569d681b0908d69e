"""From which strangeness on a photo is of none of the classes; this does not import torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from fewshot_lite.heads.array_head import DescribedHead
from fewshot_lite.heads.in_numpy import Array, scaled
from fewshot_lite.personal.prediction import check_reject

#: Length that features are scaled to before strangeness is measured; β is 1, a hundredth of its
#: square.
LENGTH = 10.0
#: Strangeness within rounding: a photo that is in the support set many times over is no stranger.
_ROUNDING = 0.01


def class_weights(shots: Array) -> Array:
    """(K,): what distances to classes of so many photos count by; see `novelty`."""
    weights: Array = shots / (shots + 1) * (shots.max() + 1) / shots.max()
    return weights


def strangeness_of_support(
    features: Array, labels: Array, classes: int, groups: Array | None = None
) -> Array:
    """How strange each support photo is to the others, float32 (N,).

    NaN for the only photo, or clip, of a class.

    Args:
        features: float32 (N, d).
        labels: int64 (N,) of 0..K-1, every class present.
        classes: K.
        groups: int64 (N,), what is left out together (`heads.groups`).
    """
    one = np.zeros((), np.float32)  # β = 1; at τ = 1 a logit is minus a distance
    head = DescribedHead({"name": "mahalanobis"}, {"log_beta": one, "log_temperature": one})
    logits = head.leave_one_out_logits((scaled(features, LENGTH), labels, classes), groups)
    weights = class_weights(np.bincount(labels, minlength=classes))
    found: Array = (-weights * logits).min(1).astype(np.float32)
    return found


def threshold(
    support_strangeness: Sequence[float], reject: float, groups: Sequence[int] | None = None
) -> float:
    """The strangeness above which a photo is unknown.

    Where there are photos enough, the quantile at rank (N + 1) (1 - reject) of what they are
    to one another, beyond which a new photo of the same kind lies with probability `reject`,
    however strangeness is distributed (conformal prediction; Vovk et al. 2005). Where that
    rank is above N (at 0.05, below 20 photos), the one-sided Student prediction bound on its
    square root, as if distances were normal.

    Frames of one clip are not exchangeable with those of others, clips are: N counts clips, and a
    clip of f frames has 1/f of a rank in each (Dunn, Wasserman and Ramdas, "Distribution-Free
    Prediction Sets for Two-Layer Hierarchical Models", JASA 2023).

    Args:
        support_strangeness: of each support photo among the others; NaN where unknown.
        reject: the share of one's own photos to lose by it, 0 (none) to below 1.
        groups: numbers of what was left out together; None where each photo was alone.

    Returns:
        Infinity if `reject` is 0, or if no class has two photos: nothing is known then.

    Raises:
        UsageError: no such share.
    """
    check_reject(reject)
    numbers = range(len(support_strangeness)) if groups is None else groups
    frames = Counter(numbers)
    known = sorted(
        (value, 1 / frames[group])
        for value, group in zip(support_strangeness, numbers, strict=True)
        if not math.isnan(value)
    )
    if reject == 0 or not known:
        return math.inf
    number = round(math.fsum(weight for _, weight in known))
    rank = (number + 1) * (1 - reject)
    if rank < number:
        return max(_at_rank(known, rank), _ROUNDING)
    distances = [(math.sqrt(max(value, 0.0)), weight) for value, weight in known]
    mean = math.fsum(weight * distance for distance, weight in distances) / number
    squares = (weight * (distance - mean) ** 2 for distance, weight in distances)
    variance = math.fsum(squares) / (number - 1)
    spread = math.sqrt(variance * (1 + 1 / number))
    bound = mean + student_quantile(1 - reject, number - 1) * spread
    return max(bound**2, _ROUNDING)


def _at_rank(known: Sequence[tuple[float, float]], rank: float) -> float:
    """The value at a rank below that of the last, of sorted values with their shares of a rank.

    Between two values it is interpolated.
    """
    before, reached = known[0][0], 0.0
    for value, weight in known:
        if rank <= reached + weight:
            return before + max(rank - reached, 0.0) / weight * (value - before)
        before, reached = value, reached + weight
    return before


def student_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's t: exact for 1 and 2 degrees of freedom, else to about 1 %.

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
