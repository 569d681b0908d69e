"""The Mahalanobis head of Simple CNAPs, in the rank of the data.

Bateni et al. 2020 ("Improved Few-Shot Visual Classification", equations 1 to 3):

    logit_k(q) = -τ (q - μ_k)ᵀ Q_k⁻¹ (q - μ_k),   Q_k = λ_k Σ_k + (1 - λ_k) Σ + β I,
    λ_k = n_k / (n_k + 1),

with the covariance Σ_k of class k and Σ of all N support features, over n - 1. A class of one
image has Σ_k = 0; a task of one image has Σ = 0. The paper has β = 1 and no temperature. Here both
are learned unless `fixed_temperature` is set, with a temperature well below 1 at the start: at
τ = 1 the logits are wildly over-confident, and meta-training then shrinks the features instead of
learning.

Nothing here is d × d where N < d. In two steps, with X the (N, d) centred features:

  1. B_n = (1 - λ_n) Σ + β I is shared by all classes of n images. Its inverse is written as
     s I ± EᵀE: for N < d by Woodbury, s = 1/β, minus, E = √(a/β) L⁻¹ X with L Lᵀ = β I + a X Xᵀ and
     a = (1 - λ_n)/(N - 1); else s = 0, plus, E = L⁻¹ with L Lᵀ = B_n.
  2. Q_k = B_n + UᵀU with the (n_k, d) rows U of λ_k Σ_k, so Q_k⁻¹ = B_n⁻¹ - VᵀV with
     V = C⁻¹ U B_n⁻¹ and C Cᵀ = I + U B_n⁻¹ Uᵀ.

Hence (q - μ)ᵀ Q_k⁻¹ (q - μ) = s ‖q - μ‖² ± ‖E (q - μ)‖² - ‖V (q - μ)‖²: linear maps and squares.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from fewshot_lite.heads.base import Head, Statistics
from fewshot_lite.heads.features import at_least_float32, class_means, root_features


class MahalanobisHead(Head):
    """Distances to class means under regularised class covariances; see the module's text."""

    kind: ClassVar[str] = "mahalanobis"
    log_beta: Tensor
    log_temperature: Tensor

    def __init__(
        self,
        beta: float = 1.0,
        temperature: float | None = None,
        *,
        root: bool = False,
        fixed_temperature: bool = False,
    ) -> None:
        """Initialise the head.

        Args:
            beta: β, the weight of the identity in Q_k.
            temperature: τ; None for 0.1, or 1 if it is fixed.
            root: measure in `root_features` instead of the features themselves (the paper's).
            fixed_temperature: learn neither τ nor β, as in the paper.
        """
        super().__init__()
        self.root, self.fixed_temperature = root, fixed_temperature
        start = temperature or (1.0 if fixed_temperature else 0.1)
        self._hold(learned=not fixed_temperature, beta=beta, temperature=start)

    @property
    def name(self) -> str:
        return "mahalanobis-root" if self.root else "mahalanobis"

    def options(self) -> dict[str, Any]:
        return {"root": self.root, "fixed_temperature": self.fixed_temperature}

    @property
    def beta(self) -> Tensor:
        """β, ()."""
        return self.log_beta.exp()

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Compute means and factors of a support set; arguments and errors as `Head.fit`.

        Returns:
            "centre" (d,), "means" (K, d) relative to it; for each count n of images a class,
            "shared.n" (r, d) (the E of its classes); "own" (N', d) (the rows V of all classes),
            "own_class" int64 (N',), "shots" int64 (K,).
        """
        features = self.prepared(features)
        number, _ = features.shape
        centre = features.mean(0)
        x = features - centre  # (N, d): small differences of large numbers only once
        means, shots = class_means(x, labels, classes)
        statistics = {"centre": centre, "means": means, "shots": shots}
        order = labels.argsort(stable=True)
        deviations = (x - means[labels])[order]  # (N, d), rows by class
        starts = (shots.cumsum(0) - shots).tolist()
        own, own_class = [], []
        for n in sorted(set(shots.tolist())):
            weight = n / (n + 1)  # λ_n
            a = (1 - weight) / max(number - 1, 1)
            shared = self._shared_factor(x, a)
            statistics[f"shared.{n}"] = shared
            if n == 1:
                continue  # Σ_k = 0
            members = (shots == n).nonzero().flatten()
            rows = torch.stack([deviations[starts[k] : starts[k] + n] for k in members.tolist()])
            u = rows * (weight / (n - 1)) ** 0.5  # (K_n, n, d)
            u_inverse = self._apply_inverse(u, shared)  # U B⁻¹
            c = _cholesky(_plus_identity(u_inverse @ u.mT, 1.0))
            v = torch.linalg.solve_triangular(c, u_inverse, upper=False)
            own.append(v.flatten(0, 1))
            own_class.append(members.repeat_interleave(n))
        empty = x.new_zeros(0, x.shape[1])
        statistics["own"] = torch.cat([empty, *own])
        statistics["own_class"] = torch.cat([labels.new_zeros(0), *own_class])
        return statistics

    def distances(self, statistics: Statistics, features: Tensor) -> Tensor:
        """Return squared Mahalanobis distances (Q, K) of query features (Q, d) to the classes."""
        means, shots = statistics["means"], statistics["shots"]
        q = self.prepared(features) - statistics["centre"]
        euclidean = _squared_distances(q, means)  # (Q, K)
        per_shot = {
            n: self._shared_distances(statistics[f"shared.{n}"], q, means, euclidean)
            for n in sorted(set(shots.tolist()))
        }
        stacked = torch.stack(list(per_shot.values()))  # (distinct counts, Q, K)
        row = {n: i for i, n in enumerate(per_shot)}
        index = torch.tensor([row[n] for n in shots.tolist()], device=q.device)
        distances = stacked[index, :, torch.arange(len(shots), device=q.device)].mT
        own, own_class = statistics["own"], statistics["own_class"]
        offsets = (own * means[own_class]).sum(1)  # V_k μ_k, (N',)
        squares = (q @ own.mT - offsets).square()  # (Q, N')
        distances = distances.index_add(1, own_class, -squares)
        return distances.clamp(min=0)  # negative by rounding only

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        return -self.log_temperature.exp() * self.distances(statistics, features)

    def prepared(self, features: Tensor) -> Tensor:
        """Transform features (B, d) to the space of the distances."""
        return root_features(features) if self.root else at_least_float32(features)

    def _shared_factor(self, x: Tensor, a: float) -> Tensor:
        """E, (min(N, d), d), of B = a XᵀX + β I."""
        number, width = x.shape
        if number < width:
            factor = _cholesky(_plus_identity(a * x @ x.mT, self.beta))
            rows = x * (a / self.beta) ** 0.5
        else:
            factor = _cholesky(_plus_identity(a * x.mT @ x, self.beta))
            rows = torch.eye(width, dtype=x.dtype, device=x.device)
        e: Tensor = torch.linalg.solve_triangular(factor, rows, upper=False)
        return e

    def _apply_inverse(self, u: Tensor, shared: Tensor) -> Tensor:
        """U B⁻¹ for rows u (..., d)."""
        projected = (u @ shared.mT) @ shared
        inverse: Tensor = u / self.beta - projected if _is_low_rank(shared) else projected
        return inverse

    def _shared_distances(
        self, shared: Tensor, q: Tensor, means: Tensor, euclidean: Tensor
    ) -> Tensor:
        """(q - μ)ᵀ B⁻¹ (q - μ), (Q, K)."""
        projected = _squared_distances(q @ shared.mT, means @ shared.mT)
        distances: Tensor = euclidean / self.beta - projected if _is_low_rank(shared) else projected
        return distances


def _is_low_rank(shared: Tensor) -> bool:
    """Whether a factor E is of the low-rank form; the dense form is square."""
    return shared.shape[0] < shared.shape[1]


def _cholesky(matrix: Tensor) -> Tensor:
    """L of matrices (..., n, n); NaN where overflow or rounding left them without one.

    Then the loss is not finite, as with features that are not, and training skips the step. Raising
    an error would have to wait for the GPU.
    """
    factor, failed = torch.linalg.cholesky_ex(matrix)
    checked: Tensor = factor.masked_fill((failed != 0)[..., None, None], torch.nan)
    return checked


def _plus_identity(matrix: Tensor, scale: Tensor | float) -> Tensor:
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return matrix + scale * eye


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i - b_j‖², (A, B), of rows (A, d) and (B, d)."""
    return a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.mT
