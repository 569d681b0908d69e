"""A linear head in closed form: ridge regression of the support labels on the cached features.

Bertinetto et al. 2019 ("Meta-learning with differentiable closed-form solvers", R2-D2):

    W, b = argmin Σ_n v_n ‖y_n - W x_n - b‖² + λ ‖W‖²,   logits = τ (W x + b),

with one-hot labels y_n and features x_n of length 1. It is the linear layer that UpperCaSE fits by
gradient steps, without the steps. Each class weighs the same however many photos it has,
v_n = N / (K n_k). The smaller of the two systems is solved, N × N or d × d.

Leave-one-out uses blocks of the hat matrix. Let a photo with g of the m rows of class c be left
out. Up to a common factor, the fit to the others has the weights u_k = 1 / n_k of other classes,
1 / (m - g) of its own, and λ' = λ K / (N - g). With X the rows (x_n, 1), U the weights as if class
c still had m rows, and the class's block of the hat matrix

    D = I - U_c^½ X_c (Xᵀ U X + λ' diag(1, .., 1, 0))⁻¹ X_cᵀ U_c^½    (m, m),

the larger weight of class c is a change of U_c of rank m, and leaving the photo out one of g rows:
with S = (I - g/m D)⁻¹, and R the (m, K) residuals at the weights U,

    y_i - prediction of i left out = ((D S)_ii)⁻¹ (S R)_i,    i the photo's g rows.

So one factor serves all photos of g rows, with an m × m system for each class.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.heads.base import Head, Statistics
from fewshot_lite.heads.features import at_least_float32, class_means, root_features
from fewshot_lite.heads.in_numpy import RIDGE


class RidgeHead(Head):
    """A linear layer fitted by least squares; see the module's text."""

    kind: ClassVar[str] = "ridge"
    log_strength: Tensor
    log_temperature: Tensor

    def __init__(
        self, strength: float = RIDGE[0], temperature: float = RIDGE[1], *, root: bool = True
    ) -> None:
        """Initialise the head.

        Args:
            strength: λ. Chosen, with the temperature, on the validation sets of the model card over
                1 to 10 shots, where λ = 0.03 to 0.2 are much the same.
            temperature: τ; scores range from about 0 to 1.
            root: fit to `root_features`; False fits to the features themselves.
        """
        super().__init__()
        self.root = root
        self._hold(strength=strength, temperature=temperature)

    def options(self) -> dict[str, Any]:
        return {"root": self.root}

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Return "weight" (K, d) and "bias" (K,); arguments and errors as `Head.fit`."""
        x = self.prepared(features)
        means, shots = class_means(x, labels, classes)
        middle = means.mean(0)  # the weighted mean of all rows
        roots = (len(x) / (classes * shots[labels].to(x.dtype))).sqrt()[:, None]  # √v_n, (N, 1)
        rows = roots * (x - middle)  # (N, d)
        targets = roots * (F.one_hot(labels, classes).to(x.dtype) - 1 / classes)  # (N, K)
        weight = _solve(rows, targets, self.log_strength.exp())
        return {"weight": weight, "bias": 1 / classes - weight @ middle}

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        x = self.prepared(features)
        return self.log_temperature.exp() * F.linear(x, statistics["weight"], statistics["bias"])

    def prepared(self, features: Tensor) -> Tensor:
        """Transform features (B, d) to the input of the layer, of length 1."""
        if self.root:
            features = root_features(features)
        return F.normalize(at_least_float32(features), dim=1)


def _solve(rows: Tensor, targets: Tensor, strength: Tensor) -> Tensor:
    """W (K, d) for weighted, centred rows (N, d) and targets (N, K)."""
    number, width = rows.shape
    few = number < width
    gram = rows @ rows.mT if few else rows.mT @ rows
    gram = gram + strength * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    factor, failed = torch.linalg.cholesky_ex(gram)
    factor = factor.masked_fill(failed != 0, torch.nan)  # not finite rather than an error
    if few:
        weight: Tensor = torch.cholesky_solve(targets, factor).mT @ rows
    else:
        weight = torch.cholesky_solve(rows.mT @ targets, factor).mT
    return weight
