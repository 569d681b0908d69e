"""Where a linear head stands before gradient steps: learned for a fixed way, or from class means.

Learned is what Finn et al. 2017 and Rajeswaran et al. 2019 do. From class means (Proto-MAML,
Triantafillou et al. 2020, section 3.2) it serves any number of classes: w_k = 2τ c_k and
b_k = -τ ‖c_k‖² make the squared distances to class means of ProtoNets its logits, τ learned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from fewshot_lite.core.errors import UsageError
from fewshot_lite.heads.base import Head, Statistics


class LinearStart(Head):
    """Weights and biases before the first step."""

    kind: ClassVar[str] = "linear-start"
    refits: ClassVar[bool] = False

    def __init__(self, feature_dim: int, way: int | None = None) -> None:
        """A start.

        Args:
            feature_dim: d.
            way: K, for a learned layer; None to begin at class means.
        """
        super().__init__()
        self.feature_dim = feature_dim
        self._way = way
        if way is None:
            # Distances grow with the width; so logits begin at a few units whatever it is.
            start = 4 / max(feature_dim, 1)
            self.log_temperature = nn.Parameter(torch.tensor(math.log(start)))
        else:
            bound = 1 / math.sqrt(feature_dim)
            self.weight = nn.Parameter(torch.empty(way, feature_dim).uniform_(-bound, bound))
            self.bias = nn.Parameter(torch.zeros(way))

    @property
    def way(self) -> int | None:
        return self._way

    def options(self) -> dict[str, Any]:
        return {"feature_dim": self.feature_dim, "way": self.way}

    def check_way(self, classes: int) -> None:
        """Refuse a number of classes that a learned layer is not made for.

        Raises:
            UsageError: it is not.
        """
        if self.way is not None and classes != self.way:
            raise UsageError(
                f"This model's head was learned for {self.way} classes, but there are {classes}. "
                "Give that many, or use a model that was meta-trained with --inner-head means."
            )

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """ "weight" (K, d) and "bias" (K,) from support features (N, d) with labels (N,)."""
        if self.way is not None:
            return {"weight": self.weight, "bias": self.bias}
        # A product with indicators, not an index: this runs under vmap.
        members = (labels[:, None] == torch.arange(classes, device=labels.device)).to(features)
        means = (members / members.sum(0).clamp(min=1)).mT @ features
        temperature = self.log_temperature.exp()
        return {"weight": 2 * temperature * means, "bias": -temperature * means.square().sum(1)}

    def fit_with(
        self, own: Mapping[str, Tensor], features: Tensor, labels: Tensor, classes: int
    ) -> Statistics:
        """`fit` with other values of the head's own parameters."""
        found: Statistics = functional_call(self, dict(own), (features, labels, classes))
        return found

    def forward(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """`fit`, by the name that `functional_call` knows."""
        return self.fit(features, labels, classes)

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        return F.linear(features, statistics["weight"], statistics["bias"])
