"""Class means: the head of ProtoNets (Snell et al. 2017, equation 1), Euclidean or cosine."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_lite.core.config import Metric
from fewshot_lite.heads import Statistics
from fewshot_lite.heads.means import class_means


class PrototypeHead(nn.Module):
    """logit_k(q) = -τ ‖q - μ_k‖², or τ cos(q, μ_k) with features normalised before the mean."""

    def __init__(self, metric: Metric = "euclidean") -> None:
        """A head with a learned temperature τ."""
        super().__init__()
        self.metric = metric
        start = 0.1 if metric == "euclidean" else 10.0
        self.log_temperature = nn.Parameter(torch.tensor(start).log())

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Class means (K, d) of support features (N, d) with labels (N,).

        Raises:
            ValueError: a class without images.
        """
        means, _ = class_means(self.prepared(features), labels, classes)
        return {"means": means}

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        """Logits (Q, K) of query features (Q, d)."""
        q, means = self.prepared(features), statistics["means"]
        temperature = self.log_temperature.exp()
        if self.metric == "cosine":
            return temperature * q @ F.normalize(means, dim=1).mT
        centre = means.mean(0)  # small differences of large numbers only once
        q, means = q - centre, means - centre
        squares = q.square().sum(1)[:, None] + means.square().sum(1) - 2 * q @ means.mT
        return -temperature * squares.clamp(min=0)

    def prepared(self, features: Tensor) -> Tensor:
        """Features (B, d) as distances are measured in them."""
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        return F.normalize(features, dim=1) if self.metric == "cosine" else features
