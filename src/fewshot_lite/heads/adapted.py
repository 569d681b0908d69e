"""A linear head that was adapted together with the backbone, so that features cannot refit it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_lite.heads import Statistics


class AdaptedHead(nn.Module):
    """logit_k(q) = τ (q·w_k + b_k), as gradient steps left it."""

    weight: Tensor
    bias: Tensor

    def __init__(self, classes: int, feature_dim: int) -> None:
        """A head of zeros, to be loaded."""
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, feature_dim))
        self.register_buffer("bias", torch.zeros(classes))
        self.log_temperature = nn.Parameter(torch.tensor(0.0))

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor) -> AdaptedHead:
        """The head of these weights (K, d) and biases (K,)."""
        head = cls(*weight.shape)
        head.weight, head.bias = weight.detach().clone(), bias.detach().clone()
        return head.to(weight.device)

    def reordered(self, order: Sequence[int]) -> AdaptedHead:
        """A copy in which class k is what class order[k] is here."""
        head = AdaptedHead.of(self.weight[list(order)], self.bias[list(order)])
        with torch.no_grad():
            head.log_temperature.copy_(self.log_temperature)
        return head

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """The weights (K, d) and biases (K,) as they are.

        Raises:
            ValueError: another number of classes.
        """
        if classes != len(self.bias):
            raise ValueError(f"a head adapted to {len(self.bias)} classes, not {classes}")
        return {"weight": self.weight, "bias": self.bias}

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        """Logits (Q, K) of query features (Q, d)."""
        weight, bias = statistics["weight"], statistics["bias"]
        return self.log_temperature.exp() * F.linear(features.to(weight.dtype), weight, bias)
