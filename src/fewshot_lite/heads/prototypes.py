"""Class means: the head of ProtoNets (Snell et al. 2017, equation 1), Euclidean or cosine."""

from __future__ import annotations

from typing import Any, ClassVar, get_args

import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.core.config import Metric
from fewshot_lite.heads.base import Head, Statistics
from fewshot_lite.heads.features import at_least_float32, class_means


class PrototypeHead(Head):
    """logit_k(q) = -τ ‖q - μ_k‖², or τ cos(q, μ_k) with features normalised before the mean."""

    kind: ClassVar[str] = "prototypes"
    log_temperature: Tensor

    def __init__(self, metric: Metric = "euclidean", temperature: float | None = None) -> None:
        """Initialise the head.

        Args:
            metric: the distance to class means.
            temperature: initial τ; None for 0.1, or 10 with cosines.

        Raises:
            ValueError: no such metric.
        """
        super().__init__()
        if metric not in get_args(Metric):
            raise ValueError(f"metric {metric!r}")
        self.metric = metric
        self._hold(temperature=temperature or (0.1 if metric == "euclidean" else 10.0))

    @property
    def name(self) -> str:
        return self.metric

    def options(self) -> dict[str, Any]:
        return {"metric": self.metric}

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Return the class means (K, d); arguments and errors as `Head.fit`."""
        means, _ = class_means(self.prepared(features), labels, classes)
        return {"means": means}

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        q, means = self.prepared(features), statistics["means"]
        temperature = self.log_temperature.exp()
        if self.metric == "cosine":
            return temperature * q @ F.normalize(means, dim=1).mT
        centre = means.mean(0)  # small differences of large numbers only once
        q, means = q - centre, means - centre
        squares = q.square().sum(1)[:, None] + means.square().sum(1) - 2 * q @ means.mT
        return -temperature * squares.clamp(min=0)

    def prepared(self, features: Tensor) -> Tensor:
        features = at_least_float32(features)
        return F.normalize(features, dim=1) if self.metric == "cosine" else features
