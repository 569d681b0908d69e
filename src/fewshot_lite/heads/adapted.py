"""A linear head adapted together with the backbone, which cannot be refitted to features alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_lite.heads.base import Head, Statistics


class AdaptedHead(Head):
    """logit_k(q) = τ (q·w_k + b_k), with fixed w and b; on q/‖q‖ if `normalised`."""

    kind: ClassVar[str] = "adapted"
    refits: ClassVar[bool] = False
    weight: Tensor
    bias: Tensor

    def __init__(self, classes: int, feature_dim: int, normalised: bool = False) -> None:
        """Make a head of zeros, to load a state into."""
        super().__init__()
        self.normalised = normalised
        self.register_buffer("weight", torch.zeros(classes, feature_dim))
        self.register_buffer("bias", torch.zeros(classes))
        self.log_temperature = nn.Parameter(torch.tensor(0.0))

    @classmethod
    def of(
        cls, weight: Tensor, bias: Tensor, temperature: float = 1.0, *, normalised: bool = False
    ) -> AdaptedHead:
        """Make a head from weights (K, d), biases (K,) and temperature τ."""
        head = cls(len(bias), weight.shape[1], normalised)
        head.weight, head.bias = weight.detach().clone(), bias.detach().clone()
        nn.init.constant_(head.log_temperature, torch.tensor(temperature).log().item())
        return head.to(weight.device)

    @property
    def way(self) -> int:
        return len(self.bias)

    def options(self) -> dict[str, Any]:
        classes, feature_dim = self.weight.shape
        normalised = {"normalised": True} if self.normalised else {}
        return {"classes": classes, "feature_dim": feature_dim, **normalised}

    def reordered(self, order: Sequence[int]) -> AdaptedHead:
        temperature = float(self.log_temperature.detach().exp())
        weight, bias = self.weight[list(order)], self.bias[list(order)]
        return AdaptedHead.of(weight, bias, temperature, normalised=self.normalised)

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Return the fixed weights (K, d) and biases (K,).

        Raises:
            ValueError: another number of classes.
        """
        if classes != self.way:
            raise ValueError(f"a head adapted to {self.way} classes, not {classes}")
        return {"weight": self.weight, "bias": self.bias}

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        weight, bias = statistics["weight"], statistics["bias"]
        features = features.to(weight.dtype)
        if self.normalised:
            features = F.normalize(features, dim=1)
        return self.log_temperature.exp() * F.linear(features, weight, bias)
