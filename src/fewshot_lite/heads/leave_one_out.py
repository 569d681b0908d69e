"""Leave-one-out logits of heads in closed form, in NumPy.

They need no gradient, so `Head.leave_one_out_logits` calls this too. Heads without a closed form
here are refitted without each photo.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fewshot_lite.heads.in_numpy import (
    OLD_COUNT_POWER,
    Array,
    Options,
    State,
    Support,
    as_doubles,
    checked_power,
    class_means,
    inverse_of_lower,
    rooted,
    scaled,
    under,
)
from fewshot_lite.heads.mahalanobis_leave_one_out import leave_one_out_distances

#: Options, state, support set and rows (P, g) of P photos, each left out alone: logits (P, g, K).
_LeaveOut = Callable[[Options, State, Support, Array], Array]

#: Results of `_cached` by a hash of their inputs, the oldest first.
_cache: dict[bytes, Array] = {}
_MOST_CACHED = 4
_cache_lock = threading.Lock()


def has_form(description: Mapping[str, Any]) -> bool:
    """Whether the head of a description, and all heads in it, have a closed form."""
    inner = [*description.get("heads", ()), *filter(None, [description.get("head")])]
    return description["name"] in _KINDS and all(map(has_form, inner))


def leave_one_out_logits(
    description: Mapping[str, Any],
    tensors: Mapping[str, Array],
    support: Support,
    groups: Array | None = None,
) -> Array:
    """Return the logits of every support image by the head fitted to the others.

    Args:
        description: a head that `has_form`.
        tensors: its state.
        support: as `in_numpy.fit_head` takes it.
        groups: int64 (N,), equal for rows that are left out together: the views of a photo, the
            frames of a clip. None: each row is left out alone.

    Returns:
        float64 (N, K); NaN in the rows of a group that is its class's only one.

    Raises:
        ValueError: a class without images, or a group in two classes.
    """
    _, labels, classes = support
    logits = np.full((len(labels), classes), np.nan)
    compute = _compute if description["name"] == "calibrated" else _cached
    for rows in photos_by_size(labels, classes, groups):
        logits[rows] = compute(description, tensors, support, rows)
    return logits


def photos_by_size(labels: Array, classes: int, groups: Array | None) -> Iterator[Array]:
    """Yield the rows of the photos that can be left out, int64 (P, g), for each number g of rows.

    Raises:
        ValueError: as `leave_one_out_logits`.
    """
    shots = np.bincount(labels, minlength=classes)
    if len(shots) > classes or (shots == 0).any():
        raise ValueError(f"every one of the {classes} classes needs a support image")
    groups = np.arange(len(labels)) if groups is None else groups
    order = np.argsort(groups, kind="stable")
    starts = first_rows(groups)[0]
    sizes = np.diff(starts, append=len(order))
    photo_labels = labels[order[starts]]
    if not (labels[order] == photo_labels.repeat(sizes)).all():
        raise ValueError("groups: one has rows in two classes")
    for size in sorted(set(sizes.tolist())):
        chosen = starts[(sizes == size) & (shots[photo_labels] > sizes)]
        if len(chosen):
            yield order[chosen[:, None] + np.arange(size)]


def first_rows(groups: Array) -> tuple[Array, Array]:
    """Return the start of each group among the rows sorted by group, and its first row, (G,)."""
    order = np.argsort(groups, kind="stable")  # np.unique would import half of NumPy
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[:1]] - 1))
    return starts, order[starts]


def _compute(
    description: Mapping[str, Any], tensors: Mapping[str, Array], support: Support, rows: Array
) -> Array:
    return _KINDS[description["name"]](dict(description), dict(tensors), support, rows)


def _cached(
    description: Mapping[str, Any], tensors: Mapping[str, Array], support: Support, rows: Array
) -> Array:
    """Return `_compute`, cached for the last few inputs.

    Calibration leaves out each photo, and so does the estimate of a calibrated head's accuracy: up
    to two constants with the same logits, which take three quarters of the time of both.
    """
    key = hashlib.blake2b(repr((description, support[2])).encode())
    for name, value in (*sorted(tensors.items()), ("", support[0]), ("", support[1]), ("", rows)):
        key.update(f"{name} {value.dtype} {value.shape} ".encode())
        key.update(np.ascontiguousarray(value).data)
    logits = _cache.get(key.digest())
    if logits is None:
        logits = _compute(description, tensors, support, rows)
        with _cache_lock:
            while len(_cache) >= _MOST_CACHED:
                del _cache[next(iter(_cache))]
            _cache[key.digest()] = logits
    return logits.copy()


def _mahalanobis(options: Options, state: State, support: Support, rows: Array) -> Array:
    features, labels, classes = support
    x = rooted(features) if options.get("root") else as_doubles(features)
    beta, temperature = math.exp(state["log_beta"]), math.exp(state["log_temperature"])
    logits: Array = -temperature * leave_one_out_distances(x, labels, classes, rows, beta)
    return logits


def _ridge(options: Options, state: State, support: Support, rows: Array) -> Array:
    """Use the hat matrix; `ridge` has the derivation."""
    features, labels, classes = support
    x = scaled(rooted(features) if options.get("root", True) else features, 1.0)
    number, size = len(x), rows.shape[1]
    shots = np.bincount(labels, minlength=classes)
    if number < x.shape[1]:
        r: Any = np.linalg.qr(x.T, mode="r")
        x = r.T  # N coordinates with the same inner products
    x = np.concatenate([x, np.ones((number, 1))], 1)
    roots = 1 / np.sqrt(shots[labels])[:, None]  # U^½, (N, 1)
    targets = np.eye(classes)[labels]
    penalty = np.full(x.shape[1], math.exp(state["log_strength"]))
    penalty *= classes / (number - size)
    penalty[-1] = 0
    weighted = roots * x
    factor = np.linalg.cholesky(weighted.T @ weighted + np.diag(penalty))
    z = weighted @ inverse_of_lower(factor).T  # (N, r)
    residuals = targets - z @ (z.T @ (roots * targets)) / roots  # R
    logits = np.empty((*rows.shape, classes))
    photo_labels = labels[rows[:, 0]]
    for k in sorted(set(photo_labels.tolist())):
        members = np.flatnonzero(labels == k)  # in ascending order
        photos = np.flatnonzero(photo_labels == k)
        places = np.searchsorted(members, rows[photos])  # (P, g)
        d = np.eye(len(members)) - z[members] @ z[members].T
        sides = np.concatenate([d, residuals[members]], 1)
        solved = np.linalg.solve(np.eye(len(members)) - size / len(members) * d, sides)
        block = solved[places[:, :, None], places[:, None, :]]  # of S D, (P, g, g)
        misses = np.linalg.solve(block, solved[places][..., len(members) :])
        logits[photos] = targets[rows[photos]] - misses
    return np.multiply(math.exp(state["log_temperature"]), logits)


def _prototypes(options: Options, state: State, support: Support, rows: Array) -> Array:
    """Leaving a photo out changes one column: the logit of its own class."""
    features, labels, classes = support
    cosine = options.get("metric") == "cosine"
    x = scaled(features, 1.0) if cosine else as_doubles(features)
    means, shots = class_means(x, labels, classes)
    if not cosine:  # small differences of large numbers only once
        x, means = x - means.mean(0), means - means.mean(0)
    own, size = labels[rows[:, 0]], rows.shape[1]
    left = (shots[own] - size)[:, None]
    q = x[rows]  # (P, g, d)
    own_means = (means[own] * shots[own][:, None] - q.sum(1)) / left  # (P, d)
    if cosine:
        logits = q @ scaled(means, 1.0).T
        own_logits = (q @ scaled(own_means, 1.0)[:, :, None])[..., 0]
    else:
        logits = 2 * q @ means.T - np.square(q).sum(2)[..., None] - np.square(means).sum(1)
        own_logits = -np.square(q - own_means[:, None]).sum(2)
    logits[np.arange(len(rows)), :, own] = own_logits
    scaled_logits: Array = math.exp(state["log_temperature"]) * logits
    return scaled_logits


def _mean(options: Options, state: State, support: Support, rows: Array) -> Array:
    numbered = enumerate(options["heads"])
    members = [_compute(head, under(f"heads.{n}.", state), support, rows) for n, head in numbered]
    logits: Array = options.get("temperature", 1.0) * sum(members) / len(members)
    return logits


def _calibrated(options: Options, state: State, support: Support, rows: Array) -> Array:
    _, labels, classes = support
    logits = _cached(options["head"], under("head.", state), support, rows)
    counts = np.bincount(labels, minlength=classes)[None].repeat(len(rows), 0)
    counts[np.arange(len(rows)), labels[rows[:, 0]]] -= rows.shape[1]
    return np.add(float(state["factor"]) * logits, count_gain(options, state, counts)[:, None])


def count_gain(options: Mapping[str, Any], state: Mapping[str, Array], counts: Array) -> Array:
    """Return the gain of a class's logit by its number of rows (`calibrated`); 0 for most heads."""
    if "count_offset" not in state:
        return np.zeros(counts.shape)
    power = checked_power(options.get("count_power", OLD_COUNT_POWER))
    gain: Array = float(state["factor"]) * float(state["count_offset"]) / counts**power
    return gain


_KINDS: Mapping[str, _LeaveOut] = {
    "calibrated": _calibrated,
    "linear": _ridge,
    "mahalanobis": _mahalanobis,
    "mean": _mean,
    "prototypes": _prototypes,
    "ridge": _ridge,
}
