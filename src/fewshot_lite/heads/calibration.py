"""Calibrate a head on its own support set, in NumPy; `calibrated` has the formulas and reasons."""

from __future__ import annotations

import numpy as np

from fewshot_lite.heads.array_head import ArrayHead
from fewshot_lite.heads.groups import even_weights, groups_per_class
from fewshot_lite.heads.in_numpy import COUNT_POWER, Array, Support
from fewshot_lite.heads.leave_one_out import first_rows

_SIGMA = 0.5
#: Factors that are tried: e^-2 to e^2 in steps of 2.5 %.
_GRID = np.exp(np.linspace(-2, 2, 161))
#: The most fits to reduced classes, in all and for one class: they cost as much as leaving out.
_REFITS, _REFITS_OF_CLASS = 16, 8


def calibrate(
    head: ArrayHead, support: Support, groups: Array | None, queries: Array | None = None
) -> tuple[float, float]:
    """Return the factor t and the count offset c of a head for a support set.

    Args:
        head: as it was learned.
        support: features (N, d), labels int64 (N,) of 0..K-1, every class present, and K.
        groups: int64 (N,), rows of one number are left out together; see `leave_one_out`.
        queries: bool (N,), rows in the view in which queries are seen, to which t is fitted; None
            for the first row of each group, or all rows without groups.

    Raises:
        ValueError: a class without images.
    """
    _, labels, _ = support
    left_out = head.leave_one_out_logits(support, groups)
    offset = _count_offset(head, support, groups, left_out)
    if offset:
        left_out = head.calibrated(1.0, offset).leave_one_out_logits(support, groups)
    if groups is not None:
        rows = first_rows(groups)[1] if queries is None else np.flatnonzero(queries)
        left_out, labels, groups = left_out[rows], labels[rows], groups[rows]
    return likeliest_factor(left_out, labels, groups), offset


def likeliest_factor(logits: Array, labels: Array, groups: Array | None = None) -> float:
    """Return the factor t that fits leave-one-out logits; 1 if none is known.

    Args:
        logits: (N, K); NaN in the rows of photos that were not left out.
        labels: int64 (N,).
        groups: int64 (N,), rows of one number were left out together, and count as one.
    """
    known = np.isfinite(logits).all(1)
    if not known.any():
        return 1.0
    logits, labels = logits[known].astype(np.float64), labels[known]
    groups = None if groups is None else groups[known]
    shots = groups_per_class(labels, logits.shape[1], groups)
    effective = len(shots) ** 2 / (1 / shots.clip(1)).sum()  # N'
    weights = effective * even_weights(labels, logits.shape[1], groups)  # (N,)
    costs = scaled_cross_entropies(logits, labels, _GRID) @ weights
    return float(_GRID[(costs + np.square(np.log(_GRID)) / (2 * _SIGMA**2)).argmin()])


def scaled_cross_entropies(logits: Array, labels: Array, factors: Array) -> Array:
    """Return cross-entropies (F, N) of logits (N, K) times F positive factors; labels int64 (N,).

    All products share one buffer: with a new one for each factor the allocator kept all of them (3
    GB at 1,000 classes of 2 photos).
    """
    logits = logits - logits.max(1, keepdims=True)  # so that no exponential overflows
    target = logits[np.arange(len(labels)), labels]
    scaled, entropies = np.empty_like(logits), np.empty((len(factors), len(labels)))
    for row, factor in zip(entropies, factors.tolist(), strict=True):
        np.exp(np.multiply(logits, factor, out=scaled), out=scaled)
        row[:] = np.log(scaled.sum(1)) - factor * target
    return entropies


def leave_one_out_accuracy(head: ArrayHead, support: Support, groups: Array | None = None) -> float:
    """Return the leave-one-out accuracy on the support photos, each class weighing the same.

    Groups that are their class's only one do not count; NaN if all are.
    """
    _, labels, classes = support
    logits = head.leave_one_out_logits(support, groups)
    known = ~np.isnan(logits).any(1)
    labels, groups = labels[known], None if groups is None else groups[known]
    if not len(labels):
        return float("nan")
    right = logits[known].argmax(1) == labels
    return float((even_weights(labels, classes, groups) * right).sum())


def _count_offset(
    head: ArrayHead, support: Support, groups: Array | None, left_out: Array
) -> float:
    """Fit c by least squares over the classes with more photos than the rarest; 0 without any."""
    features, labels, classes = support
    if groups is None:
        groups = np.arange(len(labels))
    photos = [np.array(sorted(set(groups[labels == k].tolist()))) for k in range(classes)]
    fewest = min(len(members) for members in photos)
    larger = [k for k in range(classes) if len(photos[k]) > fewest + 1]
    larger = sorted(larger, key=lambda k: -len(photos[k]))[:_REFITS]
    product = square = 0.0
    for k in larger:
        times = min(_REFITS_OF_CLASS, _REFITS // len(larger), len(photos[k]) // fewest) or 1
        of_class = labels == k
        for start in range(times):
            kept = photos[k][start::times][:fewest]
            inside = (groups[:, None] == kept).any(1)
            out = of_class & ~inside
            rows = ~of_class | inside
            logits = head.fit((features[rows], labels[rows], classes))
            change = logits(features[out]) - left_out[out]
            rise = (change.sum(1) - change[:, k]) / (classes - 1)  # of the other classes
            loss = rise / 2 - change[:, k]
            # Leaving a photo out leaves its class without all rows of the photo.
            lost_rows = (groups[out][:, None] == groups[of_class]).sum(1)
            few, many = float((of_class & inside).sum()), of_class.sum() - lost_rows
            gap = few**-COUNT_POWER - many**-COUNT_POWER
            product += float((loss * gap).mean())
            square += float(np.square(gap).mean())
    return max(0.0, product / square) if square else 0.0
