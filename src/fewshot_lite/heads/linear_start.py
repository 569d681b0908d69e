"""The linear head before gradient steps: learned for a fixed way, or made from class means.

A learned head is that of Finn et al. 2017 and Rajeswaran et al. 2019. One from class means
(Proto-MAML, Triantafillou et al. 2020, section 3.2) serves any way: w_k = 2τ c_k and
b_k = -τ ‖c_k‖² give the logits of ProtoNets, the squared distances to class means, with τ learned.
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
        """Initialise the head.

        Args:
            feature_dim: d.
            way: K, for a learned layer; None to start from class means.
        """
        super().__init__()
        self.feature_dim = feature_dim
        self._way = way
        if way is None:
            # Distances grow with the width: so logits start at a few units for any width.
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
        """Raise a UsageError if the layer was learned for another number of classes."""
        if self.way is not None and classes != self.way:
            raise UsageError(
                f"This model's head was learned for {self.way} classes, but there are {classes}. "
                "Give that many, or use a model that was meta-trained with --inner-head means."
            )

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Return "weight" (K, d) and "bias" (K,) for support features (N, d) and labels (N,)."""
        if self.way is not None:
            return {"weight": self.weight, "bias": self.bias}
        # A product with indicators rather than an index, to run under vmap.
        members = (labels[:, None] == torch.arange(classes, device=labels.device)).to(features)
        means = (members / members.sum(0).clamp(min=1)).mT @ features
        temperature = self.log_temperature.exp()
        return {"weight": 2 * temperature * means, "bias": -temperature * means.square().sum(1)}

    def fit_with(
        self, parameters: Mapping[str, Tensor], features: Tensor, labels: Tensor, classes: int
    ) -> Statistics:
        """Run `fit` with other values of the head's parameters."""
        arguments = features, labels, classes
        statistics: Statistics = functional_call(self, dict(parameters), arguments)
        return statistics

    def forward(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Run `fit`, for `functional_call`."""
        return self.fit(features, labels, classes)

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        return F.linear(features, statistics["weight"], statistics["bias"])
