"""The head of CNAPs: each class's weights and bias generated from its mean feature.

Requeima et al. 2019, section 2.2 and appendix: w_k = μ_k + MLP_w(μ_k) and b_k = MLP_b(μ_k), so the
generated layer begins as class means, and one generator serves any number of classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewshot_lite.heads import Statistics
from fewshot_lite.heads.means import class_means


class GeneratedLinearHead(nn.Module):
    """logit_k(q) = τ (q·w_k + b_k), with w_k and b_k from the mean feature of class k."""

    def __init__(self, feature_dim: int) -> None:
        """Generators for features of this width; a learned temperature τ keeps logits in range."""
        super().__init__()
        self.feature_dim = feature_dim
        self.weight = _mlp(feature_dim, feature_dim)
        self.bias = _mlp(feature_dim, 1)
        self.log_temperature = nn.Parameter(torch.tensor(0.1).log())

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Weights (K, d) and biases (K,) from support features (N, d) with labels (N,).

        Raises:
            ValueError: a class without images.
        """
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        means, _ = class_means(features, labels, classes)
        return {"weight": means + self.weight(means), "bias": self.bias(means).squeeze(1)}

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        """Logits (Q, K) of query features (Q, d)."""
        weight, bias = statistics["weight"], statistics["bias"]
        logits: Tensor = self.log_temperature.exp() * (features.to(weight.dtype) @ weight.mT + bias)
        return logits


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    """Three layers with ELU, as published; the last begins small, so class means rule at first."""
    layers = nn.Sequential(
        nn.Linear(inputs, inputs),
        nn.ELU(),
        nn.Linear(inputs, inputs),
        nn.ELU(),
        nn.Linear(inputs, outputs),
    )
    with torch.no_grad():
        last = layers[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(0.1)
    return layers
