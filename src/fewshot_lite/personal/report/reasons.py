"""Which support photos are like a photo, and which are typical of their class.

Photos are compared by the cosine of their roots of features, whitened by what varies within
classes (within-class covariance normalisation; Hatch, Kajarekar and Stolcke 2006): so what all
photos of a class differ in counts for little, as it does for the heads. Answers are not made this
way, and the nearest photo need not be of the class that is answered: of queries of four data sets
(8 photos a class) it was in 87 %, by the plain cosine in 69 % (`docs/former-model.md`). One of that
class is always shown.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fewshot_lite.heads.in_numpy import Array, as_array, class_means, rooted, scaled
from fewshot_lite.personal.with_photos import WithPhotos


def likeness(personal: WithPhotos, features: Any) -> Array:
    """Cosines (B, N), within ±1, of photos with features (B, d) to the support photos.

    In double precision, whichever engine runs the model: of one file two engines show the same.
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

    found: Array = whitened(rooted(as_array(features))) @ whitened(support).T
    return found


def nearest_photos(
    personal: WithPhotos, features: Any, answers: list[int], *, most: int = 3
) -> list[list[int]]:
    """The support photos that are most like each photo, the likest first.

    Args:
        personal: the model.
        features: (B, d) of the photos, NumPy's or torch's.
        answers: B classes; if none of the likest photos is of a photo's class, the last one gives
            way to the likest of that class.
        most: how many to each.

    Returns:
        B lists of indices into the support photos.
    """
    found = []
    labels = personal.contents.labels.tolist()
    for row, answer in zip(likeness(personal, features), answers, strict=True):
        order = (-row).argsort(kind="stable").tolist()
        chosen = order[:most]
        if all(labels[i] != answer for i in chosen):
            chosen[-1] = next(i for i in order if labels[i] == answer)
        found.append(chosen)
    return found


def typical_photos(
    personal: WithPhotos, *, most: int = 3, leave_out: frozenset[int] = frozenset()
) -> list[list[int]]:
    """For each class its photos that are most like all of it, but for some that may not count.

    Returns:
        K lists of indices into the support photos; a class of which all are left out has none.
    """
    numbers, features = personal.contents.labels, personal.contents.features[:, 0]
    means, _ = class_means(features, numbers, len(personal.class_names))
    alike = likeness(personal, means).tolist()
    labels = numbers.tolist()
    found: list[list[int]] = []
    for k, row in enumerate(alike):
        own = [i for i, label in enumerate(labels) if label == k and i not in leave_out]
        found.append(sorted(own, key=lambda i: -row[i])[:most])
    return found


def left_out_answers(personal: WithPhotos) -> list[int | None]:
    """The class that the others take each support photo for; None for its class's only photo."""
    logits = as_array(personal.leave_one_out_logits())
    alone: Array = np.asarray(np.isnan(logits).any(1))
    answers = np.nan_to_num(logits, nan=0.0).argmax(1).tolist()
    return [None if nothing else k for nothing, k in zip(alone.tolist(), answers, strict=True)]
