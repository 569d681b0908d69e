"""Leave-one-out of heads in closed form, in NumPy: what the other photos make of each.

It needs no gradient, so torch's heads have no other (`Head.leave_one_out_logits` asks here). Heads
that have no form here are fitted again without each photo.
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

#: A photo's row in (P, g), rows that are left out together, of a support set: (P, g, K) logits.
_LeftOut = Callable[[Options, State, Support, Array], Array]

#: Logits of `_remembered` by a hash of all that they depend on, the oldest first.
_known: dict[bytes, Array] = {}
_MOST_KNOWN = 4
_changing = threading.Lock()


def has_form(description: Mapping[str, Any]) -> bool:
    """Whether the head of a description, and those in it, have a closed form here."""
    inner = [*description.get("heads", ()), *filter(None, [description.get("head")])]
    return description["name"] in _KINDS and all(map(has_form, inner))


def leave_one_out_logits(
    description: Mapping[str, Any],
    tensors: Mapping[str, Array],
    support: Support,
    groups: Array | None = None,
) -> Array:
    """Logits of every support image by the head fitted to the others.

    Args:
        description: of a head that `has_form`.
        tensors: its state.
        support: as `in_numpy.fit_head` takes it.
        groups: int64 (N,), numbers of what is left out together: the views of a photo, the frames
            of a clip. None if every row is left out alone.

    Returns:
        float64 (N, K); NaN in the rows of a group that is its class's only one.

    Raises:
        ValueError: a class without images, or a group in two classes.
    """
    _, labels, classes = support
    found = np.full((len(labels), classes), np.nan)
    work = _of if description["name"] == "calibrated" else _remembered
    for rows in photos_by_size(labels, classes, groups):
        found[rows] = work(description, tensors, support, rows)
    return found


def photos_by_size(labels: Array, classes: int, groups: Array | None) -> Iterator[Array]:
    """The rows of the photos that can be left out, int64 (P, g) for each number g of views.

    Raises:
        ValueError: as `leave_one_out_logits`.
    """
    shots = np.bincount(labels, minlength=classes)
    if len(shots) > classes or (shots == 0).any():
        raise ValueError(f"every one of the {classes} classes needs a support image")
    groups = np.arange(len(labels)) if groups is None else groups
    order = np.argsort(groups, kind="stable")
    starts = first_rows(groups)[0]
    views = np.diff(starts, append=len(order))
    own = labels[order[starts]]
    if not (labels[order] == own.repeat(views)).all():
        raise ValueError("groups: one has rows in two classes")
    for size in sorted(set(views.tolist())):
        chosen = starts[(views == size) & (shots[own] > views)]
        if len(chosen):
            yield order[chosen[:, None] + np.arange(size)]


def first_rows(groups: Array) -> tuple[Array, Array]:
    """Where each photo begins among the rows sorted by photo, and its first row, int64 (P,)."""
    order = np.argsort(groups, kind="stable")  # np.unique would import half of NumPy
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[:1]] - 1))
    return starts, order[starts]


def _of(
    description: Mapping[str, Any], tensors: Mapping[str, Array], support: Support, rows: Array
) -> Array:
    return _KINDS[description["name"]](dict(description), dict(tensors), support, rows)


def _remembered(
    description: Mapping[str, Any], tensors: Mapping[str, Array], support: Support, rows: Array
) -> Array:
    """As `_of`, computed once for a support set whose last results are still there.

    Calibration leaves out each photo, and so does whoever asks how good the calibrated head is: the
    same logits but for two constants, and three quarters of the time of both.
    """
    key = hashlib.blake2b(repr((description, support[2])).encode())
    for name, value in (*sorted(tensors.items()), ("", support[0]), ("", support[1]), ("", rows)):
        key.update(f"{name} {value.dtype} {value.shape} ".encode())
        key.update(np.ascontiguousarray(value).data)
    known = _known.get(key.digest())
    if known is None:
        known = _of(description, tensors, support, rows)
        with _changing:
            while len(_known) >= _MOST_KNOWN:
                del _known[next(iter(_known))]
            _known[key.digest()] = known
    return known.copy()


def _mahalanobis(options: Options, state: State, support: Support, rows: Array) -> Array:
    features, labels, classes = support
    x = rooted(features) if options.get("root") else as_doubles(features)
    beta, temperature = math.exp(state["log_beta"]), math.exp(state["log_temperature"])
    found: Array = -temperature * leave_one_out_distances(x, labels, classes, rows, beta)
    return found


def _ridge(options: Options, state: State, support: Support, rows: Array) -> Array:
    """By the hat matrix; see `ridge`."""
    features, labels, classes = support
    x = scaled(rooted(features) if options.get("root", True) else features, 1.0)
    number, size = len(x), rows.shape[1]
    shots = np.bincount(labels, minlength=classes)
    if number < x.shape[1]:
        r: Any = np.linalg.qr(x.T, mode="r")
        x = r.T  # the same products, in N coordinates
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
    own = labels[rows[:, 0]]
    for k in sorted(set(own.tolist())):
        members = np.flatnonzero(labels == k)  # in ascending order
        photos = np.flatnonzero(own == k)
        places = np.searchsorted(members, rows[photos])  # (P, g)
        d = np.eye(len(members)) - z[members] @ z[members].T
        sides = np.concatenate([d, residuals[members]], 1)
        solved = np.linalg.solve(np.eye(len(members)) - size / len(members) * d, sides)
        block = solved[places[:, :, None], places[:, None, :]]  # of S D, (P, g, g)
        misses = np.linalg.solve(block, solved[places][..., len(members) :])
        logits[photos] = targets[rows[photos]] - misses
    found: Array = math.exp(state["log_temperature"]) * logits
    return found


def _prototypes(options: Options, state: State, support: Support, rows: Array) -> Array:
    """A photo left out changes one column: the logit of its own class."""
    features, labels, classes = support
    cosine = options.get("metric") == "cosine"
    x = scaled(features, 1.0) if cosine else as_doubles(features)
    means, shots = class_means(x, labels, classes)
    if not cosine:  # small differences of large numbers only once
        x, means = x - means.mean(0), means - means.mean(0)
    own, size = labels[rows[:, 0]], rows.shape[1]
    left = (shots[own] - size)[:, None]
    q = x[rows]  # (P, g, d)
    others = (means[own] * shots[own][:, None] - q.sum(1)) / left  # (P, d)
    if cosine:
        logits = q @ scaled(means, 1.0).T
        mine = (q @ scaled(others, 1.0)[:, :, None])[..., 0]
    else:
        logits = 2 * q @ means.T - np.square(q).sum(2)[..., None] - np.square(means).sum(1)
        mine = -np.square(q - others[:, None]).sum(2)
    logits[np.arange(len(rows)), :, own] = mine
    found: Array = math.exp(state["log_temperature"]) * logits
    return found


def _mean(options: Options, state: State, support: Support, rows: Array) -> Array:
    numbered = enumerate(options["heads"])
    members = [_of(head, under(f"heads.{n}.", state), support, rows) for n, head in numbered]
    found: Array = options.get("temperature", 1.0) * sum(members) / len(members)
    return found


def _calibrated(options: Options, state: State, support: Support, rows: Array) -> Array:
    _, labels, classes = support
    logits = _remembered(options["head"], under("head.", state), support, rows)
    counts = np.bincount(labels, minlength=classes)[None].repeat(len(rows), 0)
    counts[np.arange(len(rows)), labels[rows[:, 0]]] -= rows.shape[1]
    found: Array = float(state["factor"]) * logits + count_gain(options, state, counts)[:, None]
    return found


def count_gain(options: Mapping[str, Any], state: Mapping[str, Array], counts: Array) -> Array:
    """What a head adds to the logit of a class of so many rows: see `calibrated`; most heads 0."""
    if "count_offset" not in state:
        return np.zeros(counts.shape)
    power = checked_power(options.get("count_power", OLD_COUNT_POWER))
    found: Array = float(state["factor"]) * float(state["count_offset"]) / counts**power
    return found


_KINDS: Mapping[str, _LeftOut] = {
    "calibrated": _calibrated,
    "linear": _ridge,
    "mahalanobis": _mahalanobis,
    "mean": _mean,
    "prototypes": _prototypes,
    "ridge": _ridge,
}
