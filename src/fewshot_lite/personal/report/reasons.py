"""Find the support photos that are similar to a photo, and those that are typical of their class.

Photos are compared by the cosine of their root features, whitened by the within-class covariance
(within-class covariance normalisation; Hatch, Kajarekar and Stolcke 2006): so variation within
classes counts for little, as it does for the heads. Answers are not made this way, and the nearest
photo need not be of the predicted class: for queries of four data sets (8 shots) it was in 87 %, by
the plain cosine in 69 % (`docs/former-model.md`). One of that class is always shown.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fewshot_lite.heads.in_numpy import Array, as_array, class_means, rooted, scaled
from fewshot_lite.personal.with_photos import WithPhotos

#: Similar photos that are shown with an answer, and typical photos of a class.
_SHOWN = 3


def similarity(personal: WithPhotos, features: Any) -> Array:
    """Return the cosines (B, N), within ±1, of photos with features (B, d) to the support photos.

    They are in double precision, so that all engines show the same photos for a file.
    """
    labels = personal.contents.labels
    support = rooted(personal.contents.features[:, 0])
    means, _ = class_means(support, labels, len(personal.class_names))
    # C = XᵀX/N + β I, β the mean variance; √β C^(-1/2) = I + V diag(shrink) Vᵀ, X = U S Vᵀ.
    _, spread, axes = np.linalg.svd(support - means[labels], full_matrices=False)
    variances = np.square(spread) / len(support)
    ridge = max(float(variances.sum()) / support.shape[1], float(np.finfo(np.float32).tiny))
    shrink = np.sqrt(ridge / (variances + ridge)) - 1

    def whitened(x: Array) -> Array:
        x = x - support.mean(0)
        return scaled(x + (x @ axes.T * shrink) @ axes, 1.0)

    cosines: Array = whitened(rooted(as_array(features))) @ whitened(support).T
    return cosines


def nearest_photos(personal: WithPhotos, features: Any, predicted: list[int]) -> list[list[int]]:
    """Return the three support photos most similar to each photo, the most similar first.

    Args:
        personal: the model.
        features: (B, d) of the photos, NumPy's or torch's.
        predicted: B classes; if none of the three is of the predicted class, the last one is
            replaced by the most similar one of that class.

    Returns:
        B lists of indices into the support photos.
    """
    nearest = []
    labels = personal.contents.labels.tolist()
    for row, answer in zip(similarity(personal, features), predicted, strict=True):
        order = (-row).argsort(kind="stable").tolist()
        chosen = order[:_SHOWN]
        if all(labels[i] != answer for i in chosen):
            chosen[-1] = next(i for i in order if labels[i] == answer)
        nearest.append(chosen)
    return nearest


def typical_photos(
    personal: WithPhotos, *, leave_out: frozenset[int] = frozenset()
) -> list[list[int]]:
    """Return the three photos of each class that are most similar to its mean.

    Args:
        personal: the model.
        leave_out: indices of photos that are not considered.

    Returns:
        K lists of indices into the support photos; empty if all photos of a class are left out.
    """
    labels, features = personal.contents.labels, personal.contents.features[:, 0]
    means, _ = class_means(features, labels, len(personal.class_names))
    typical = []
    for k, row in enumerate(similarity(personal, means).tolist()):
        members = [i for i in np.flatnonzero(labels == k).tolist() if i not in leave_out]
        typical.append(sorted(members, key=lambda i: -row[i])[:_SHOWN])
    return typical


def left_out_answers(personal: WithPhotos) -> list[int | None]:
    """Return the leave-one-out class of each support photo; None for its class's only photo."""
    logits = as_array(personal.leave_one_out_logits())
    known = np.logical_not(np.isnan(logits).any(1)).tolist()
    answers = np.nan_to_num(logits, nan=0.0).argmax(1).tolist()
    return [k if is_known else None for k, is_known in zip(answers, known, strict=True)]
