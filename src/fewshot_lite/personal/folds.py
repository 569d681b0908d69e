"""How many folds the photos are dealt over where the whole adaptation leaves them out."""

from __future__ import annotations

from fewshot_lite.heads.in_numpy import Array

#: More would cost more; fewer would leave less to adapt to.
FOLDS = 4


def most_left_out(shots: Array) -> Array:
    """How many photos of classes of these sizes (int64, at least 2) a fold leaves out at most."""
    found: Array = (shots + FOLDS - 1) // FOLDS
    return found
