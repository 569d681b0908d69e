"""Class means of support features: what every head of a learner begins with."""

from __future__ import annotations

import torch
from torch import Tensor


def class_means(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean feature and number of images of each class.

    Args:
        features: (N, d).
        labels: int64 (N,) of 0..K-1, every class present.
        classes: K.

    Returns:
        Means (K, d) and shots int64 (K,).

    Raises:
        ValueError: a class without images, or a label that is no class.
    """
    shots = torch.bincount(labels, minlength=classes)
    if len(shots) > classes or bool((shots == 0).any()):
        raise ValueError(f"every one of the {classes} classes needs a support image")
    sums = features.new_zeros(classes, features.shape[1]).index_add(0, labels, features)
    return sums / shots[:, None], shots
