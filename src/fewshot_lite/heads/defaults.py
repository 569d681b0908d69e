"""The head that a base adapts with unless told otherwise, by its description; see `choice`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fewshot_lite.heads.array_head import DescribedHead
from fewshot_lite.heads.in_numpy import COSINE, RIDGE, Array

#: Factor on the mean's logits: where its members differ it is less sure than it is right. Chosen on
#: the validation sets, for 1 to 5 shots and 3 to 10 ways; drawings and novel classes were looked at
#: as well.
_MEAN = 1.3


def default_head(own: Mapping[str, Any], tensors: Mapping[str, Array]) -> DescribedHead:
    """The mean of a base's Mahalanobis head, ridge regression and cosines.

    Args:
        own: what `Head.describe` says of the base's head.
        tensors: its state.
    """
    ridge, cosine = {"name": "ridge", "root": True}, {"name": "prototypes", "metric": "cosine"}
    constants = {
        "heads.1.log_strength": RIDGE[0],
        "heads.1.log_temperature": RIDGE[1],
        "heads.2.log_temperature": COSINE,
    }
    return DescribedHead(
        {"name": "mean", "heads": [dict(own), ridge, cosine], "temperature": _MEAN},
        {f"heads.0.{name}": value for name, value in tensors.items()}
        | {name: np.array(math.log(value), np.float32) for name, value in constants.items()},
    )
