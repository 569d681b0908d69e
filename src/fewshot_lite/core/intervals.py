"""95 % intervals of means and of shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean, stdev

#: The 97.5 % quantile of the normal distribution, rounded as in published protocols.
NORMAL = 1.96
#: Values closer than this are equal but for rounding.
_SPREAD = 1e-12
#: From this many values on, the normal distribution replaces Student's t.
MANY = 100


def half_width(values: Sequence[float], *, normal: bool = False) -> float:
    """Return half the 95 % interval of a mean, t·std/√n with the variance over n - 1.

    Below `MANY` values t is Student's, as 1.96 would cover only 81 % at 3 values and 93 % at 15.

    Args:
        values: independent measurements, e.g. the accuracies of tasks.
        normal: use t = 1.96 for any number of values, as ORBIT and Meta-Dataset do.

    Returns:
        The half-width; NaN for a single value, or if all are equal.
    """
    if len(values) < 2 or max(values) - min(values) < _SPREAD:
        return math.nan
    factor = NORMAL if normal or len(values) >= MANY else t_quantile(len(values) - 1)
    return factor * stdev(values) / math.sqrt(len(values))


def mean_of_means(
    groups: Sequence[Sequence[float]], *, normal: bool = False
) -> tuple[float, float]:
    """Return the mean of independent groups' means, and half its 95 % interval.

    Both are NaN without groups; the latter is NaN if a group has no interval (see `half_width`).
    """
    if not groups:
        return math.nan, math.nan
    squares = math.fsum(half_width(group, normal=normal) ** 2 for group in groups)
    return fmean(map(fmean, groups)), math.sqrt(squares) / len(groups)


@lru_cache
def t_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution, by bisection."""
    low, high = 1.0, 13.0  # 12.706 at one degree of freedom
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 0.95 else (low, middle)
    return (low + high) / 2


def _within(t: float, freedom: int) -> float:
    """Return P(|T| < t) by a finite series (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (k - 1) / k
    share = math.sin(angle) * total
    return 2 / math.pi * (angle + share) if odd else share


def wilson_interval(correct: float, total: float) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927), valid for few photos and near 0 and 1."""
    if total == 0:
        return (0.0, 1.0)
    share, z = correct / total, NORMAL
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    # Exact at 0 and 1, where the formula would suffer from rounding.
    low = 0.0 if correct == 0 else centre - half
    high = 1.0 if correct == total else centre + half
    return (low, high)
