"""Heads by their descriptions: the one that is the default, and those of names; see `choice`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fewshot_lite.heads.array_head import DescribedHead
from fewshot_lite.heads.in_numpy import COSINE, RIDGE, Array, as_doubles

#: Factor on the mean's logits: where its members differ it is less sure than it is right. Chosen on
#: the validation sets, for 1 to 5 shots and 3 to 10 ways; drawings and novel classes were looked at
#: as well.
_MEAN = 1.3
#: Temperature of Euclidean class means times the mean squared distance of support images from
#: their mean, as features are of any size.
_EUCLIDEAN = 3.0
#: β and τ of the Mahalanobis head on features, as it starts, and on roots, of validation sets.
PLAIN, ROOT = (1.0, 0.1), (0.7, 0.18)


def default_head(own: Mapping[str, Any], tensors: Mapping[str, Array]) -> DescribedHead:
    """The mean of a base's Mahalanobis head, ridge regression and cosines.

    Args:
        own: what `Head.describe` says of the base's head.
        tensors: its state.
    """
    heads = [DescribedHead(own, tensors), _ridge(), _cosine()]
    return DescribedHead(
        {
            "name": "mean",
            "heads": [dict(head.description) for head in heads],
            "temperature": _MEAN,
        },
        {
            f"heads.{number}.{name}": value
            for number, head in enumerate(heads)
            for name, value in head.tensors.items()
        },
    )


def named_head(name: str, features: Array) -> DescribedHead:
    """A head that `adapt --head` knows, with the constants that `registry.NAMED_HEADS` gives it.

    Args:
        name: of one that stands for itself.
        features: of the support set, (N, d), whose spread a Euclidean head's temperature is of.

    Raises:
        KeyError: no such head.
    """
    if name == "euclidean":
        spread = np.square(as_doubles(features) - as_doubles(features).mean(0)).sum(1).mean()
        return _prototypes("euclidean", _EUCLIDEAN / max(float(spread), 1e-12))
    return {
        "ridge": _ridge(),
        "cosine": _cosine(),
        "mahalanobis": _mahalanobis(*PLAIN, root=False),
        "mahalanobis-root": _mahalanobis(*ROOT, root=True),
    }[name]


def name_of(description: Mapping[str, Any]) -> str:
    """As `Head.name` has it, of what `Head.describe` says."""
    name = str(description["name"])
    if name == "mahalanobis" and description["root"]:
        return "mahalanobis-root"
    return str(description["metric"]) if name == "prototypes" else name


def _ridge() -> DescribedHead:
    strength, temperature = RIDGE
    constants = {"strength": strength, "temperature": temperature}
    return DescribedHead({"name": "ridge", "root": True}, _logarithms(constants))


def _cosine() -> DescribedHead:
    return _prototypes("cosine", COSINE)


def _prototypes(metric: str, temperature: float) -> DescribedHead:
    description = {"name": "prototypes", "metric": metric}
    return DescribedHead(description, _logarithms({"temperature": temperature}))


def _mahalanobis(beta: float, temperature: float, *, root: bool) -> DescribedHead:
    description = {"name": "mahalanobis", "root": root, "fixed_temperature": False}
    return DescribedHead(description, _logarithms({"beta": beta, "temperature": temperature}))


def _logarithms(constants: Mapping[str, float]) -> dict[str, Array]:
    """As `Head` keeps constants."""
    return {
        f"log_{name}": np.array(math.log(value), np.float32) for name, value in constants.items()
    }
