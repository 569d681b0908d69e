"""Transforms and class means of features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.heads.in_numpy import ROOT_EPSILON, ROOT_LENGTH


def at_least_float32(features: Tensor) -> Tensor:
    """Convert features to float32, or leave a wider dtype as it is."""
    return features.to(torch.promote_types(features.dtype, torch.float32))


def root_features(features: Tensor) -> Tensor:
    """Take signed square roots, scaled to length 10: (B, d) to (B, d), float32 or better.

    Square roots of histogram-like features keep the few largest from dominating distances
    (Hellinger distance; Arandjelović & Zisserman 2012, "RootSIFT").
    """
    features = at_least_float32(features)
    roots = features.sign() * ((features.abs() + ROOT_EPSILON).sqrt() - ROOT_EPSILON**0.5)
    return ROOT_LENGTH * F.normalize(roots, dim=1)


def class_means(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the mean feature and the number of images of each class.

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
