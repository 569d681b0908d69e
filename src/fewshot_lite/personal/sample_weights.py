"""Weights of photos, as `FewShotClassifier.score` takes them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fewshot_lite.core.errors import InputError


def as_weights(given: npt.ArrayLike, photos: int) -> npt.NDArray[np.float64]:
    """Return a weight for each photo, float64; raise InputError for anything else."""
    try:
        weights = np.asarray(given)
        numbers = weights.dtype.kind in "biuf"
    except (TypeError, ValueError):  # rows of several lengths
        numbers = False
    if numbers and weights.shape == (photos,):
        weights = weights.astype(np.float64)
        with np.errstate(over="ignore"):
            if (weights >= 0).all() and 0 < weights.sum() < np.inf:
                return weights
    raise InputError(
        f"sample_weight: give {photos} finite numbers, one for each photo, from 0 up and with a "
        "sum above 0."
    )
