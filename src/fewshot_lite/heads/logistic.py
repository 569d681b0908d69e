"""Logistic regression on features: the baseline of Tian et al. 2020.

"Rethinking few-shot image classification: a good embedding is all you need?", section 3: features
of length 1, multinomial logistic regression with an L2 penalty, ½ ‖W‖² + C Σ_n loss_n, C = 1.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.heads.base import Head, Statistics

#: L-BFGS converges on a few hundred images in far fewer.
_MOST_ITERATIONS = 200


class LogisticHead(Head):
    """logit_k(q) = w_k·q + b_k, fitted to convergence in float64; the penalty spares the biases."""

    kind: ClassVar[str] = "logistic"

    def __init__(self, c: float = 1.0) -> None:
        """Set C, the weight of the images relative to the penalty."""
        super().__init__()
        self.c = c

    def options(self) -> dict[str, Any]:
        return {"c": self.c}

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Return "weight" (K, d) and "bias" (K,) for support features (N, d) and labels (N,).

        The best W lies in the span of the features, so at most N coordinates are fitted.
        """
        x = F.normalize(features.double(), dim=1)
        _, values, directions = torch.linalg.svd(x, full_matrices=False)
        directions = directions[values > 1e-9 * values[0]]  # (r, d), orthonormal rows
        weight, bias = self._minimise(x @ directions.mT, labels, classes)
        return {"weight": (weight @ directions).float(), "bias": bias.float()}

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        return F.linear(
            F.normalize(features.float(), dim=1), statistics["weight"], statistics["bias"]
        )

    @torch.enable_grad()
    def _minimise(self, x: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        weight = x.new_zeros(classes, x.shape[1]).requires_grad_()
        bias = x.new_zeros(classes).requires_grad_()
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=_MOST_ITERATIONS,
            tolerance_grad=1e-6,
            line_search_fn="strong_wolfe",
        )

        def objective() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(F.linear(x, weight, bias), labels, reduction="sum")
            total = self.c * loss + weight.square().sum() / 2
            total.backward()
            return total

        optimizer.step(objective)
        return weight.detach(), bias.detach()
