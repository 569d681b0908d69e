"""The heads of personal models in NumPy, without importing torch.

Each function is the counterpart of a class in this package, which has the formulas and sources.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

#: Length that root features are scaled to, so that β = 1 neither vanishes nor dominates.
ROOT_LENGTH = 10.0
#: Keeps the slope of the root finite at zero, where features after a ReLU often are.
ROOT_EPSILON = 1e-3

#: Strength and temperature of ridge regression, and temperature of cosines, chosen on validation
#: sets.
RIDGE, COSINE = (0.1, 8.0), 9.0
#: The power of the number of photos in the count offset (`calibrated`), and that in old files.
COUNT_POWER, OLD_COUNT_POWER = 0.5, 1.0

#: The largest triangular matrix that is inverted as a whole.
_SMALL = 64

#: The most heads that are averaged: a damaged file could describe thousands.
MOST_HEADS = 16

Array = npt.NDArray[Any]
#: A head's options, and its tensors, by their names.
Options: TypeAlias = dict[str, Any]
State: TypeAlias = dict[str, Array]
#: Features (N, d), labels (N,) and K.
Support = tuple[Array, Array, int]
#: Features (Q, d) to logits (Q, K).
Logits = Callable[[Array], Array]


def fit_head(
    description: Mapping[str, Any], tensors: Mapping[str, Array], support: Support
) -> Logits:
    """Fit the head of a description to a support set.

    Args:
        description: as `Head.describe` gives it.
        tensors: the head's state.
        support: features (N, d), labels int64 (N,) of 0..K-1, every class present, and K.

    Returns:
        A function of features (Q, d) that gives logits (Q, K).

    Raises:
        KeyError: a head that has no form in NumPy.
        TypeError, ValueError: options or tensors that the head does not have.
    """
    options, state = dict(description), dict(tensors)
    logits = _KINDS[options.pop("name")](options, state, support)
    if state:
        raise ValueError(f"the head has no {next(iter(state))}")
    check_head_tensors(tensors)
    return logits


def check_head_tensors(tensors: Mapping[str, Array]) -> None:
    """Raise a ValueError for a tensor that is not finite, or the logarithm of 0 or infinity."""
    for name, value in tensors.items():
        # Beyond 87 the exponential is outside the range of float32.
        most = 87.0 if name.rpartition(".")[2].startswith("log_") else math.inf
        if not (np.isfinite(value).all() and (np.abs(value) <= most).all()):
            raise ValueError(f"{name} of the head is not finite, or too large")


def mahalanobis(features: Array, labels: Array, classes: int, beta: float) -> Logits:
    """Return a function of features (Q, d) that gives squared distances (Q, K) to the classes.

    As in `heads.mahalanobis`, nothing is d × d where N < d: with X the centred features,
    (a XᵀX + β I)⁻¹ is then I/β - Xᵀ P X with P = (β X Xᵀ + β²/a I)⁻¹.
    """
    number, width = features.shape
    centre = features.mean(0)
    x = features - centre
    means, shots = class_means(x, labels, classes)
    by_class = np.argsort(labels, kind="stable")
    inverses: dict[int, Callable[[Array], Array]] = {}
    rows, row_classes = [], []
    for n in sorted(set(shots.tolist())):  # np.unique imports half of NumPy
        weight = n / (n + 1)
        inverses[n] = _inverse(x, (1 - weight) / max(number - 1, 1), beta)
        if n > 1:
            of_size = np.flatnonzero(shots == n)  # the classes of n rows, all at once
            members = by_class[shots.cumsum()[of_size, None] - n + np.arange(n)]
            u = (x[members] - means[of_size, None]) * math.sqrt(weight / (n - 1))  # (K_n, n, d)
            u_inverse = inverses[n](u.reshape(-1, width)).reshape(u.shape)
            c = np.linalg.cholesky(u_inverse @ u.swapaxes(1, 2) + np.eye(n))
            rows.append(np.linalg.solve(c, u_inverse).reshape(-1, width))
            row_classes += of_size.repeat(n).tolist()
    v = np.concatenate([np.empty((0, width), x.dtype), *rows])
    indicators = np.eye(classes, dtype=x.dtype)[row_classes].reshape(-1, classes)  # (N', K)
    offsets = (v * means[row_classes]).sum(1)

    def distances(features: Array) -> Array:
        q = features - centre
        squares = np.empty((len(q), classes), q.dtype)
        for n, inverse in inverses.items():
            of_size = shots == n
            mu = means[of_size]
            q_inverse = inverse(q)
            squares[:, of_size] = (q_inverse * q).sum(1)[:, None] - 2 * q_inverse @ mu.T
            squares[:, of_size] += (inverse(mu) * mu).sum(1)
        squares -= np.square(q @ v.T - offsets) @ indicators
        return squares.clip(0)  # negative by rounding only

    return distances


def checked_power(value: Any) -> float:
    """Return a power of `calibrated`; raise a ValueError unless it is a number from 0 to 1."""
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"count_power {value!r}")
    return float(value)


def as_array(values: Any) -> Array:
    """Convert a tensor to an array, without its gradient; arrays and None stay as they are."""
    array: Array = values.detach().cpu().numpy() if hasattr(values, "detach") else values
    return array


def state_of(module: Any) -> dict[str, Array]:
    """Return the state of a torch module as arrays."""
    return {name: as_array(value) for name, value in module.state_dict().items()}


def scaled(features: Array, length: float) -> Array:
    """Scale features to one length, in double precision."""
    return _scale(features.astype(np.float64), length)


def _scale(features: Array, length: float) -> Array:
    """Scale features in place, as copies of many photos are large."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    features *= length
    features /= np.maximum(lengths, 1e-12)
    return features


def _inverse(x: Array, a: float, beta: float) -> Callable[[Array], Array]:
    """Return a function that multiplies rows (R, d) by (a xᵀx + β I)⁻¹."""
    number, width = x.shape
    if number >= width:
        whole = np.linalg.inv(a * x.T @ x + beta * np.eye(width))
        return lambda rows: rows @ whole
    if a == 0 or number == 0:
        return lambda rows: rows / beta
    small = np.linalg.inv(beta * x @ x.T + beta**2 / a * np.eye(number))
    return lambda rows: rows / beta - ((rows @ x.T) @ small) @ x


def _mahalanobis(options: Options, state: State, support: Support) -> Logits:
    prepared = rooted if _flag(options, "root") else as_doubles
    _flag(options, "fixed_temperature")
    _no_more(options)
    beta, temperature = _exp(state, "log_beta"), _exp(state, "log_temperature")
    features, labels, classes = support
    distances = mahalanobis(prepared(features), labels, classes, beta)
    return lambda q: -temperature * distances(prepared(q))


def _ridge(options: Options, state: State, support: Support) -> Logits:
    root = _flag(options, "root", True)
    _no_more(options)
    strength, temperature = _exp(state, "log_strength"), _exp(state, "log_temperature")

    def prepared(features: Array) -> Array:
        return scaled(rooted(features) if root else features, 1.0)

    features, labels, classes = support
    x = prepared(features)
    means, shots = class_means(x, labels, classes)
    middle = means.mean(0)
    roots = np.sqrt(len(x) / (classes * shots[labels]))[:, None]
    rows = roots * (x - middle)
    targets = roots * (np.eye(classes)[labels] - 1 / classes)
    number, width = rows.shape
    if number < width:
        weight = np.linalg.solve(rows @ rows.T + strength * np.eye(number), targets).T @ rows
    else:
        weight = np.linalg.solve(rows.T @ rows + strength * np.eye(width), rows.T @ targets).T
    bias = 1 / classes - weight @ middle
    return lambda q: temperature * (prepared(q) @ weight.T + bias)


def _prototypes(options: Options, state: State, support: Support) -> Logits:
    metric = options.pop("metric", "euclidean")
    _no_more(options)
    temperature = _exp(state, "log_temperature")
    features, labels, classes = support
    if metric == "cosine":
        means, _ = class_means(scaled(features, 1.0), labels, classes)
        directions = scaled(means, 1.0)
        return lambda q: temperature * scaled(q, 1.0) @ directions.T
    if metric != "euclidean":
        raise ValueError(f"metric {metric!r}")
    means, _ = class_means(as_doubles(features), labels, classes)
    centre = means.mean(0)  # small differences of large numbers only once
    means = means - centre
    squares = np.square(means).sum(1)

    def logits(q: Array) -> Array:
        q = as_doubles(q) - centre
        distances = np.square(q).sum(1)[:, None] + squares - 2 * q @ means.T
        values: Array = -temperature * np.maximum(distances, 0)
        return values

    return logits


def _mean(options: Options, state: State, support: Support) -> Logits:
    heads, temperature = options.pop("heads"), options.pop("temperature", 1.0)
    _no_more(options)
    nested = any(head["name"] in ("adapted", "calibrated", "mean") for head in heads)
    if nested or not (0 < len(heads) <= MOST_HEADS and 0 < temperature < math.inf):
        raise ValueError("no heads that could be averaged")
    members = [fit_head(h, under(f"heads.{n}.", state), support) for n, h in enumerate(heads)]

    def logits(q: Array) -> Array:
        mean: Array = float(temperature) * np.mean([member(q) for member in members], axis=0)
        return mean

    return logits


def _calibrated(options: Options, state: State, support: Support) -> Logits:
    head = options.pop("head")
    power = checked_power(options.pop("count_power", OLD_COUNT_POWER))
    _no_more(options)
    inner = fit_head(head, under("head.", state), support)
    factor, offset = _scalar(state, "factor"), _scalar(state, "count_offset")
    _, labels, classes = support
    offsets = offset / np.bincount(labels, minlength=classes) ** power
    return lambda q: factor * (inner(q) + offsets)


def _adapted(options: Options, state: State, support: Support) -> Logits:
    features, _, classes = support
    normalised = _flag(options, "normalised")
    shape = options.pop("classes"), options.pop("feature_dim")
    _no_more(options)
    temperature = _exp(state, "log_temperature")
    weight, bias = state.pop("weight"), state.pop("bias")
    if not shape == weight.shape == (classes, features.shape[1]) or bias.shape != (classes,):
        raise ValueError("an adapted head of another shape")
    weight, bias = weight.astype(np.float64), bias.astype(np.float64)

    def logits(q: Array) -> Array:
        q = scaled(q, 1.0) if normalised else as_doubles(q)
        scores: Array = temperature * (q @ weight.T + bias)
        return scores

    return logits


def class_means(features: Array, labels: Array, classes: int) -> tuple[Array, Array]:
    """Return the means (K, d) and the numbers (K,) of the rows of each class."""
    shots = np.bincount(labels, minlength=classes)
    rows = features[np.argsort(labels, kind="stable")]
    return np.add.reduceat(rows, np.cumsum(shots) - shots) / shots[:, None], shots


def inverse_of_lower(factor: Array) -> Array:
    """Invert a lower triangular matrix, by recursive halving into matrix products.

    NumPy has no triangular solver, and its general one takes several times as long.
    """
    if len(factor) <= _SMALL:
        return np.linalg.inv(factor)
    half = len(factor) // 2
    first, last = inverse_of_lower(factor[:half, :half]), inverse_of_lower(factor[half:, half:])
    inverse = np.zeros_like(factor)
    inverse[:half, :half], inverse[half:, half:] = first, last
    inverse[half:, :half] = -last @ (factor[half:, :half] @ first)
    return inverse


def as_doubles(features: Array) -> Array:
    return features.astype(np.float64)


def rooted(features: Array) -> Array:
    """`features.root_features` in double precision."""
    roots = as_doubles(features)
    np.abs(roots, out=roots)
    roots += ROOT_EPSILON
    np.sqrt(roots, out=roots)
    roots -= ROOT_EPSILON**0.5
    return _scale(np.copysign(roots, features, out=roots), ROOT_LENGTH)


def _flag(options: Options, name: str, default: bool = False) -> bool:
    value = options.pop(name, default)
    if not isinstance(value, bool):
        raise TypeError(f"{name} {value!r}")
    return value


def _no_more(options: Options) -> None:
    if options:
        raise TypeError(f"no options {', '.join(options)}")


def _scalar(state: State, name: str) -> float:
    value = state.pop(name)
    if value.shape != () or value.dtype != np.float32:
        raise ValueError(f"{name} has another shape or type")
    return float(value)


def _exp(state: State, name: str) -> float:
    return math.exp(_scalar(state, name))


def under(prefix: str, state: State) -> State:
    """Remove the tensors with a prefix from a state, and return them without the prefix."""
    names = [name for name in state if name.startswith(prefix)]
    return {name.removeprefix(prefix): state.pop(name) for name in names}


_KINDS: Mapping[str, Callable[[Options, State, Support], Logits]] = {
    "adapted": _adapted,
    "calibrated": _calibrated,
    "linear": _ridge,
    "mahalanobis": _mahalanobis,
    "mean": _mean,
    "prototypes": _prototypes,
    "ridge": _ridge,
}
