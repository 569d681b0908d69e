"""Leave-one-out of the Mahalanobis head in closed form.

Write X for the (N, d) features less their mean, S = XᵀX, and let a photo be left out whose g rows
X_i are of class c. A scatter matrix around the mean loses with rows X_i of N

    X_iᵀ P X_i,   P = I + 11ᵀ / (N - g)    (Welford 1962, for several rows).

So what is inverted for a class k ≠ c of m rows is

    A_k - a X_iᵀ P X_i,   A_k = λ_k Σ_k + a S + β I,   a = (1 - λ_k) / (N - g - 1),

where A_k does not depend on the photo. For its own class it is the same with m - g rows,
λ = (m - g) / (m - g + 1), and with Y_i the rows less the mean of all m

    A_c - a X_iᵀ P X_i - s Y_iᵀ P_c Y_i,   A_c = s S_c + a S + β I,   s = λ / (m - g - 1),

S_c summed over the class, P_c = I + 11ᵀ / (m - g). With Z all rows that are taken away or measured,
Γ the weights by which they are taken away and M = Z A⁻¹ Zᵀ, the distance of Zᵀu is

    uᵀ (I - M Γ)⁻¹ M u    (Woodbury),

a system of 2g rows. All vectors lie in the span of X: so S is diagonalised once, in min(N, d)
coordinates, where a S + β I is a diagonal and A_k differs from it by as many ranks as the class has
rows. The cost is a few times that of one fit; no photo has a matrix of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot_lite.heads.features import class_means

#: Numbers in a product of photos, classes and rows, to bound its memory.
_NUMBERS = 1 << 22


def leave_one_out_distances(
    features: Tensor, labels: Tensor, classes: int, rows: Tensor, beta: float
) -> Tensor:
    """Squared distances of photos to the classes without them.

    Args:
        features: float64 (N, d) on the CPU, as the head measures in them.
        labels: int64 (N,) of 0..K-1, every class present.
        classes: K.
        rows: int64 (P, g), the rows of each photo, no photo alone in its class.
        beta: β.

    Returns:
        float64 (P, g, K).
    """
    support = _Support.of(features, labels, classes, rows.shape[1], beta)
    distances = support.to_others(rows)
    own = labels[rows[:, 0]]
    for k in own.unique().tolist():
        distances[own == k, :, k] = support.to_own(k, rows[own == k])
    return distances.clamp(min=0)  # below zero by rounding only


@dataclass(frozen=True)
class _Support:
    """The support set in the coordinates in which S is a diagonal."""

    x: Tensor
    """(N, r), centred; r = min(N, d)."""
    spectrum: Tensor
    """(r,), the diagonal of S."""
    labels: Tensor
    means: Tensor
    """(K, r)."""
    shots: Tensor
    size: int
    """g."""
    beta: float

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, classes: int, size: int, beta: float) -> _Support:
        x = features - features.mean(0)
        few = x.shape[0] < x.shape[1]
        spectrum, axes = torch.linalg.eigh(x @ x.mT if few else x.mT @ x)
        spectrum = spectrum.clamp(min=0)  # below by rounding only
        x = axes * spectrum.sqrt() if few else x @ axes
        means, shots = class_means(x, labels, classes)
        return cls(x, spectrum, labels, means, shots, size, beta)

    def to_others(self, rows: Tensor) -> Tensor:
        """Distances (P, g, K) of photos (P, g) to all classes as if none were their own."""
        distances = self.x.new_empty(*rows.shape, len(self.shots))
        for m in self.shots.unique().tolist():
            weight = m / (m + 1)
            share, root = self._shared(weight)
            members = (self.shots == m).nonzero().flatten()
            scale = weight / (m - 1) if m > 1 else 0.0
            v = torch.stack([self._own(k, root, scale) for k in members.tolist()])  # (K_m, m', r)
            means = self.means[members]
            gamma = share * self._lost(len(self.x))
            chunk = max(1, _NUMBERS // (self.size * len(members) * max(m, self.size)))
            for part, places in zip(
                rows.split(chunk), torch.arange(len(rows)).split(chunk), strict=True
            ):
                distances[places[:, None], :, members] = self._distances(
                    part, means, root, v, gamma
                )
        return distances

    def _distances(
        self, rows: Tensor, means: Tensor, root: Tensor, v: Tensor, gamma: Tensor
    ) -> Tensor:
        """Distances (P, K_m, g) of photos (P, g) to classes of as many rows each."""
        x = self.x[rows]  # (P, g, r)
        own_x = torch.einsum("pgr,kmr->pkgm", x, v)
        own_y = own_x - (v @ means[:, :, None]).squeeze(2)[:, None]  # of x - μ_k
        shared_x, shared_means = x * root, means * root
        xx = (shared_x @ shared_x.mT)[:, None] - own_x @ own_x.mT  # X A⁻¹ Xᵀ, (P, K_m, g, g)
        cross = (shared_x @ shared_means.mT).mT  # (P, K_m, g)
        shared_xx = shared_x @ shared_x.mT  # (P, g, g)
        xy = shared_xx[:, None] - cross[..., None] - own_x @ own_y.mT
        yy = (
            shared_xx.diagonal(dim1=1, dim2=2)[:, None]
            - 2 * cross
            + shared_means.square().sum(1)[:, None]
            - own_y.square().sum(3)
        )
        eye = torch.eye(self.size, dtype=x.dtype)
        # yᵀA⁻¹y + (X A⁻¹ y)ᵀ Γ (I - M Γ)⁻¹ X A⁻¹ y, M of X alone.
        gained = gamma @ torch.linalg.solve(eye - xx @ gamma, xy)
        distances: Tensor = yy + (xy * gained).sum(2)
        return distances

    def to_own(self, k: int, rows: Tensor) -> Tensor:
        """Distances (P, g) of photos (P, g) of class k, each to the class without it."""
        m, g = int(self.shots[k]), self.size
        weight = (m - g) / (m - g + 1)
        scale = weight / (m - g - 1) if m - g > 1 else 0.0
        share, root = self._shared(weight)
        v = self._own(k, root, scale)
        x = self.x[rows]
        z = torch.cat([x, x - self.means[k]], 1)  # (P, 2g, r)
        own = z @ v.mT
        products = (z * root) @ (z * root).mT - own @ own.mT  # M
        gamma = torch.block_diag(share * self._lost(len(self.x)), scale * self._lost(m))
        eye = torch.eye(g, dtype=x.dtype)
        # From the mean of the others, a row lies at its own y and all y of the photo / (m - g).
        u = torch.cat([torch.zeros_like(eye), eye + 1 / (m - g)])  # (2g, g)
        identity = torch.eye(2 * g, dtype=x.dtype)
        found = torch.linalg.solve(identity - products @ gamma, products @ u)  # (P, 2g, g)
        distances: Tensor = (u * found).sum(1)
        return distances

    def _lost(self, number: int) -> Tensor:
        """P of a photo that is left out of this many rows, (g, g)."""
        ones = self.x.new_full((self.size, self.size), 1 / (number - self.size))
        return torch.eye(self.size, dtype=self.x.dtype) + ones

    def _shared(self, weight: float) -> tuple[float, Tensor]:
        """The number a, and D (r,) of D² = (a S + β I)⁻¹."""
        share = (1 - weight) / max(len(self.x) - self.size - 1, 1)
        return share, (share * self.spectrum + self.beta).rsqrt()

    def _own(self, k: int, root: Tensor, scale: float) -> Tensor:
        """V, (m, r), of A⁻¹ = D² - VᵀV, A = scale·S_k + a S + β I; no rows where scale is 0."""
        if scale == 0:
            return self.x[:0]
        u = (self.x[self.labels == k] - self.means[k]) * (root * scale**0.5)
        c = torch.linalg.cholesky(u @ u.mT + torch.eye(len(u), dtype=u.dtype))
        v: Tensor = torch.linalg.solve_triangular(c, u, upper=False) * root
        return v
