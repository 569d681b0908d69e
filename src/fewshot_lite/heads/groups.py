"""Rows that are left out together: the views of a photo, and of all frames of one clip.

Frames of a clip are nearly alike. With some of them left in, the others would be named right by
them, and whatever is learned from leaving out would be too sure. So a group counts as one, however
many rows it has. This does not import torch.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from fewshot_lite.heads.in_numpy import Array


def group_sizes(groups: Array) -> Array:
    """How many rows the group of each row has, int64 (N,), of groups int64 (N,)."""
    counts = Counter(groups.tolist())
    return np.array([counts[group] for group in groups.tolist()], np.int64)


def groups_per_class(labels: Array, classes: int, groups: Array | None) -> Array:
    """Groups of each class, int64 (K,), of labels (N,); without groups, rows."""
    if groups is not None:
        labels = np.array(list(dict(zip(groups.tolist(), labels.tolist(), strict=True)).values()))
    counts: Array = np.bincount(labels.astype(np.int64), minlength=classes)
    return counts


def even_weights(labels: Array, classes: int, groups: Array | None) -> Array:
    """Weights of rows that add up to 1, float64 (N,).

    Classes weigh the same, and so do the groups of a class and the rows of a group.
    """
    shots = groups_per_class(labels, classes, groups)
    weights: Array = 1 / (shots[labels] * (shots > 0).sum())
    return weights if groups is None else weights / group_sizes(groups)
