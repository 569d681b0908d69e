"""Groups of rows that are left out together: all views of a photo, or of the frames of a clip.

Frames of a clip are nearly alike: with some of them left in, the others would be classified by
them, and leave-one-out would be over-confident. A group counts as one example, however many rows it
has. This does not import torch.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from fewshot_lite.heads.in_numpy import Array


def group_sizes(groups: Array) -> Array:
    """Return the size of each row's group, int64 (N,), for groups int64 (N,)."""
    counts = Counter(groups.tolist())
    return np.array([counts[group] for group in groups.tolist()], np.int64)


def groups_per_class(labels: Array, classes: int, groups: Array | None) -> Array:
    """Return the number of groups of each class, or of rows without groups, int64 (K,)."""
    if groups is not None:
        labels = np.array(list(dict(zip(groups.tolist(), labels.tolist(), strict=True)).values()))
    counts: Array = np.bincount(labels.astype(np.int64), minlength=classes)
    return counts


def even_weights(labels: Array, classes: int, groups: Array | None) -> Array:
    """Return weights of rows with sum 1, float64 (N,).

    Classes weigh the same, and so do the groups of a class and the rows of a group.
    """
    shots = groups_per_class(labels, classes, groups)
    weights: Array = 1 / (shots[labels] * (shots > 0).sum())
    return weights if groups is None else weights / group_sizes(groups)
