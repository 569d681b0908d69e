"""The head of CNAPs: each class's weights and bias generated from its mean feature.

Requeima et al. 2019, section 2.2 and appendix: w_k = μ_k + MLP_w(μ_k) and b_k = MLP_b(μ_k), so the
generated layer begins as class means, and one generator serves any number of classes. MLP_w has the
published layers d → d → d → d and MLP_b those of the published code, d → 1 → 1 → 1. Two things
depart from it: a learned temperature τ keeps logits in range unless `fixed_temperature` is set
(the published head has none), and the last weights of each generator begin at a tenth of torch's
initialisation.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fewshot_lite.heads.base import Head, Statistics
from fewshot_lite.heads.features import at_least_float32, class_means


class GeneratedLinearHead(Head):
    """logit_k(q) = τ (q·w_k + b_k), with w_k and b_k from the mean feature of class k."""

    kind: ClassVar[str] = "generated-linear"
    log_temperature: Tensor

    def __init__(self, feature_dim: int, *, fixed_temperature: bool = False) -> None:
        """Make generators for a feature width; `fixed_temperature` keeps τ at 1, as published."""
        super().__init__()
        self.feature_dim, self.fixed_temperature = feature_dim, fixed_temperature
        self.weight = _mlp(feature_dim, feature_dim)
        self.bias = _mlp(feature_dim, 1)
        start = 1.0 if fixed_temperature else 0.1
        self._hold(learned=not fixed_temperature, temperature=start)

    def options(self) -> dict[str, Any]:
        return {"feature_dim": self.feature_dim, "fixed_temperature": self.fixed_temperature}

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Generate weights (K, d) and biases (K,); arguments and errors as `Head.fit`."""
        means, _ = class_means(at_least_float32(features), labels, classes)
        return {"weight": means + self.weight(means), "bias": self.bias(means).squeeze(1)}

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        weight, bias = statistics["weight"], statistics["bias"]
        logits: Tensor = self.log_temperature.exp() * (features.to(weight.dtype) @ weight.mT + bias)
        return logits


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    """Three layers with ELU, as published; the last starts small, so that class means dominate."""
    last = nn.Linear(outputs, outputs)
    with torch.no_grad():
        last.weight.mul_(0.1)
    return nn.Sequential(
        nn.Linear(inputs, outputs), nn.ELU(), nn.Linear(outputs, outputs), nn.ELU(), last
    )
