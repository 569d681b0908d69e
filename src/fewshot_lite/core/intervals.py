"""Intervals of shares."""

from __future__ import annotations

import math


def wilson_interval(correct: float, total: float, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927), sound for few photos and for shares near 0 and 1."""
    if total == 0:
        return (0.0, 1.0)
    share = correct / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    # At the ends of the scale the formula gives them exactly, and rounding does not.
    low = 0.0 if correct == 0 else centre - half
    high = 1.0 if correct == total else centre + half
    return (low, high)
