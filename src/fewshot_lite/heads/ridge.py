"""A linear head in closed form: ridge regression of the support labels on the cached features.

Bertinetto et al. 2019 ("Meta-learning with differentiable closed-form solvers", R2-D2):

    W = argmin Σ_n v_n ‖y_n - ȳ - W x_n‖² + λ ‖W‖²,   logits = τ W x,

with one-hot labels y_n. It is the linear layer that UpperCaSE fits by gradient steps, without the
steps. Here the features x are brought to length 1, centred on the support set's mean, and brought
to length 1 again (Wang et al. 2019, "SimpleShot", CL2N), so that what all photos of a task have in
common does not count; and each class weighs the same however many photos it has,
v_n = N / (K n_k). The smaller of the two systems is solved, N × N or d × d.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_lite.heads import Statistics
from fewshot_lite.heads.features import root_features
from fewshot_lite.heads.means import class_means


class RidgeHead(nn.Module):
    """A linear layer fitted by least squares; see the module's text."""

    def __init__(
        self, strength: float = 0.5, temperature: float = 8.0, *, root: bool = True
    ) -> None:
        """A head with these constants.

        Args:
            strength: λ. Chosen, with the temperature, on the validation sets of the model card over
                1 to 10 shots, where λ = 0.3 to 1 are much the same.
            temperature: τ, which makes probabilities of scores that are about 0 to 1.
            root: fit to `root_features`; False fits to the features themselves.
        """
        super().__init__()
        self.root = root
        self.log_strength = nn.Parameter(torch.tensor(strength).log())
        self.log_temperature = nn.Parameter(torch.tensor(temperature).log())

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """The layer for a support set.

        Args:
            features: (N, d).
            labels: int64 (N,) of 0..K-1, every class present.
            classes: K.

        Returns:
            "centre" (d,) of the features at length 1; "weight" (K, d) and "bias" (K,) on features
            that are centred and brought to length 1 again.

        Raises:
            ValueError: a class without images.
        """
        x = self._unit(features)
        means, shots = class_means(x, labels, classes)
        centre = means.mean(0)
        x = F.normalize(x - centre, dim=1)
        weights = len(x) / (classes * shots[labels].to(x.dtype))  # v_n, (N,)
        middle = (weights[:, None] * x).mean(0)
        roots = weights.sqrt()[:, None]
        rows = roots * (x - middle)  # (N, d)
        targets = roots * (F.one_hot(labels, classes).to(x.dtype) - 1 / classes)  # (N, K)
        weight = _solve(rows, targets, self.log_strength.exp())
        return {"centre": centre, "weight": weight, "bias": 1 / classes - weight @ middle}

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        """Logits (Q, K) of query features (Q, d)."""
        x = F.normalize(self._unit(features) - statistics["centre"], dim=1)
        return self.log_temperature.exp() * F.linear(x, statistics["weight"], statistics["bias"])

    def _unit(self, features: Tensor) -> Tensor:
        if self.root:
            features = root_features(features)
        return F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=1)


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
