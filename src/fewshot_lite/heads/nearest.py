"""Weighted nearest neighbours (Wu et al. 2018, section 3.4).

"Unsupervised feature learning via non-parametric instance discrimination": each of the nearest
support images votes for its class with exp(cos / τ), τ = 0.07. So neighbours of different classes
do not tie where each class has one image.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.heads.base import Head, Statistics

_TEMPERATURE = 0.07


class NearestHead(Head):
    """logit_k(q) = log of the votes for class k of the nearest neighbours; -∞ without any."""

    kind: ClassVar[str] = "knn"

    def __init__(self, neighbours: int = 5) -> None:
        """Set the number of neighbours; all support images vote if there are fewer."""
        super().__init__()
        self.neighbours = neighbours

    def options(self) -> dict[str, Any]:
        return {"neighbours": self.neighbours}

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Return normalised support features (N, d) and one-hot labels (N, K)."""
        return {
            "features": F.normalize(features.float(), dim=1),
            "votes": F.one_hot(labels, classes).float(),
        }

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        support, votes = statistics["features"], statistics["votes"]
        cosines = F.normalize(features.float(), dim=1) @ support.mT  # (Q, N)
        nearest = cosines.topk(min(self.neighbours, len(support)), dim=1)
        log_weights = nearest.values / _TEMPERATURE  # (Q, n)
        voted = votes[nearest.indices] > 0  # (Q, n, K)
        scores = torch.where(voted, log_weights[:, :, None], -torch.inf)
        return scores.logsumexp(1)
