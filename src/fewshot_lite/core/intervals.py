"""95 % intervals of means and of shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean, stdev

#: The 97.5 % quantile of the normal distribution, as published protocols round it.
NORMAL = 1.96

#: Values closer than this are equal but for rounding.
_SPREAD = 1e-12

#: From so many values on, Student's t and the normal distribution are close enough.
MANY = 100


def half_width(values: Sequence[float], *, normal: bool = False) -> float:
    """Half of the 95 % interval of a mean, t·std/√n with the variance over n - 1.

    Below `MANY` values t is Student's: 1.96 covers 81 % at 3 values and 93 % at 15.

    Args:
        values: independent measurements, e.g. the accuracies of tasks.
        normal: take 1.96 for t, as ORBIT and Meta-Dataset do, however few values there are.

    Returns:
        NaN where the values say nothing about their spread: one value, or all equal.
    """
    if len(values) < 2 or max(values) - min(values) < _SPREAD:
        return math.nan
    factor = NORMAL if normal or len(values) >= MANY else t_quantile(len(values) - 1)
    return factor * stdev(values) / math.sqrt(len(values))


def mean_of_means(
    groups: Sequence[Sequence[float]], *, normal: bool = False
) -> tuple[float, float]:
    """Mean of the means of independent groups, and half of its 95 % interval.

    NaN for both without values; NaN for the latter where a group has no interval of its own.
    """
    if not groups:
        return math.nan, math.nan
    squares = math.fsum(half_width(group, normal=normal) ** 2 for group in groups)
    return fmean(map(fmean, groups)), math.sqrt(squares) / len(groups)


@lru_cache
def t_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t distribution, by bisection."""
    low, high = 1.0, 13.0  # 12.706 at one degree of freedom
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 0.95 else (low, middle)
    return (low + high) / 2


def _within(t: float, freedom: int) -> float:
    """P(|T| < t): the finite series for whole degrees of freedom.

    Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
    """
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
    """95 % interval of a share (Wilson 1927), sound for few photos and for shares near 0 and 1."""
    if total == 0:
        return (0.0, 1.0)
    share, z = correct / total, NORMAL
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    # At the ends of the scale the formula gives them exactly, and rounding does not.
    low = 0.0 if correct == 0 else centre - half
    high = 1.0 if correct == total else centre + half
    return (low, high)
