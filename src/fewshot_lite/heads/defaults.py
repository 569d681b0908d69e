"""The default head of personal models, and the heads that `adapt --head` names; see `choosing`."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from fewshot_lite.heads.array_head import ArrayHead, DescribedHead
from fewshot_lite.heads.in_numpy import COSINE, RIDGE, Array, as_doubles

#: Factor on the logits of the mean, which is under-confident where its members differ. Chosen on
#: the validation sets, for 1 to 5 shots and 3 to 10 ways; drawings and novel classes were looked at
#: as well.
_MEAN = 1.3
#: Temperature of Euclidean class means times the mean squared distance of support images from
#: their mean, as features are of any size.
_EUCLIDEAN = 3.0
#: β and τ of the Mahalanobis head: on features, as it is initialised; on roots, by validation sets.
PLAIN, ROOT = (1.0, 0.1), (0.7, 0.18)


def default_head(base_head: ArrayHead) -> ArrayHead:
    """Return the mean of a base's Mahalanobis head, ridge regression and cosines.

    Any other head of a base is its own default.
    """
    if not isinstance(base_head, DescribedHead) or base_head.description["name"] != "mahalanobis":
        return base_head
    heads = [base_head, _ridge(), _prototypes("cosine", COSINE)]
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
    """Return a head that `adapt --head` names, with the constants of `registry.NAMED_HEADS`.

    Args:
        name: any but "default" and "auto".
        features: support features (N, d), whose spread sets the temperature of a Euclidean head.

    Raises:
        KeyError: no such head.
    """
    if name == "euclidean":
        spread = np.square(as_doubles(features) - as_doubles(features).mean(0)).sum(1).mean()
        return _prototypes("euclidean", _EUCLIDEAN / max(float(spread), 1e-12))
    return {
        "ridge": _ridge(),
        "cosine": _prototypes("cosine", COSINE),
        "mahalanobis": _mahalanobis(*PLAIN, root=False),
        "mahalanobis-root": _mahalanobis(*ROOT, root=True),
    }[name]


def _ridge() -> DescribedHead:
    strength, temperature = RIDGE
    constants = {"strength": strength, "temperature": temperature}
    return DescribedHead({"name": "ridge", "root": True}, _logarithms(constants))


def _prototypes(metric: str, temperature: float) -> DescribedHead:
    description = {"name": "prototypes", "metric": metric}
    return DescribedHead(description, _logarithms({"temperature": temperature}))


def _mahalanobis(beta: float, temperature: float, *, root: bool) -> DescribedHead:
    description = {"name": "mahalanobis", "root": root, "fixed_temperature": False}
    return DescribedHead(description, _logarithms({"beta": beta, "temperature": temperature}))


def _logarithms(constants: Mapping[str, float]) -> dict[str, Array]:
    """Return constants as `Head` stores them."""
    return {
        f"log_{name}": np.array(math.log(value), np.float32) for name, value in constants.items()
    }
