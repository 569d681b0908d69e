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

import numpy as np

from fewshot_lite.heads.in_numpy import Array, class_means, inverse_of_lower

#: Numbers in a product of photos, classes and rows, to bound its memory.
_NUMBERS = 1 << 20


def leave_one_out_distances(
    features: Array, labels: Array, classes: int, rows: Array, beta: float
) -> Array:
    """Return squared distances of photos to the classes fitted without them.

    Args:
        features: float64 (N, d), as `MahalanobisHead.prepared` gives them; overwritten, as a copy
            of many photos is large.
        labels: int64 (N,) of 0..K-1, every class present.
        classes: K.
        rows: int64 (P, g), the rows of each photo; no photo is alone in its class.
        beta: β.

    Returns:
        float64 (P, g, K).
    """
    support = _Support.of(features, labels, classes, rows.shape[1], beta)
    distances = support.to_others(rows)
    own = labels[rows[:, 0]]
    for k in sorted(set(own.tolist())):
        distances[own == k, :, k] = support.to_own(k, rows[own == k])
    return distances.clip(0)  # negative by rounding only


@dataclass(frozen=True)
class _Support:
    """The support set in the coordinates in which S is a diagonal."""

    x: Array
    """(N, r), centred; r = min(N, d)."""
    spectrum: Array
    """(r,), the diagonal of S."""
    labels: Array
    means: Array
    """(K, r)."""
    shots: Array
    size: int
    """g."""
    beta: float

    @classmethod
    def of(cls, features: Array, labels: Array, classes: int, size: int, beta: float) -> _Support:
        x = np.subtract(features, features.mean(0), out=features)
        few = x.shape[0] < x.shape[1]
        spectrum, axes = np.linalg.eigh(x @ x.T if few else x.T @ x)
        spectrum = spectrum.clip(0)  # negative by rounding only
        x = axes * np.sqrt(spectrum) if few else x @ axes
        means, shots = class_means(x, labels, classes)
        return cls(x, spectrum, labels, means, shots, size, beta)

    def to_others(self, rows: Array) -> Array:
        """Return distances (P, g, K) of photos (P, g) to all classes, as if none was their own."""
        distances = np.empty((*rows.shape, len(self.shots)))
        for m in sorted(set(self.shots.tolist())):
            weight = m / (m + 1)
            share, root = self._shared(weight)
            members = np.flatnonzero(self.shots == m)
            scale = weight / (m - 1) if m > 1 else 0.0
            v = np.empty((len(members), m if scale else 0, self.x.shape[1]))  # (K_m, m', r)
            for k, of_class in zip(members.tolist(), v, strict=True):
                of_class[:] = self._own(k, root, scale)
            means = self.means[members]
            gamma = share * self._lost(len(self.x))
            chunk = max(1, _NUMBERS // (self.size * len(members) * max(m, self.size)))
            for start in range(0, len(rows), chunk):
                xx, xy, yy = self._products(rows[start : start + chunk], means, root, v)
                # yᵀA⁻¹y + (X A⁻¹ y)ᵀ Γ (I - M Γ)⁻¹ X A⁻¹ y, M of X alone.
                gained = gamma @ np.linalg.solve(np.eye(self.size) - xx @ gamma, xy)
                squares = yy.diagonal(axis1=2, axis2=3) + (xy * gained).sum(2)  # (P, K_m, g)
                distances[start : start + chunk, :, members] = squares.swapaxes(1, 2)
        return distances

    def to_own(self, k: int, rows: Array) -> Array:
        """Return distances (P, g) of photos (P, g) of class k to the class without the photo."""
        m, g = int(self.shots[k]), self.size
        weight = (m - g) / (m - g + 1)
        scale = weight / (m - g - 1) if m - g > 1 else 0.0
        share, root = self._shared(weight)
        of_class = self._products(rows, self.means[[k]], root, self._own(k, root, scale)[None])
        xx, xy, yy = (products[:, 0] for products in of_class)
        products = np.concatenate(  # M
            [np.concatenate([xx, xy], 2), np.concatenate([xy.swapaxes(1, 2), yy], 2)], 1
        )
        gamma = np.zeros((2 * g, 2 * g))
        gamma[:g, :g], gamma[g:, g:] = share * self._lost(len(self.x)), scale * self._lost(m)
        eye = np.eye(g)
        # From the mean of the others, a row lies at its own y and all y of the photo / (m - g).
        u = np.concatenate([np.zeros_like(eye), eye + 1 / (m - g)])  # (2g, g)
        identity = np.eye(2 * g)
        solved = np.linalg.solve(identity - products @ gamma, products @ u)  # (P, 2g, g)
        distances: Array = (u * solved).sum(1)
        return distances

    def _products(
        self, rows: Array, means: Array, root: Array, v: Array
    ) -> tuple[Array, Array, Array]:
        """Return X A⁻¹ Xᵀ, X A⁻¹ Yᵀ and Y A⁻¹ Yᵀ, each (P, K', g, g), of photos (P, g).

        Y is X less the mean of a class, (K', r) in all, and A⁻¹ = D² - VᵀV with D = diag(root) and
        V of `v`, (K', m', r).
        """
        x = self.x[rows]  # (P, g, r)
        xv = x.reshape(-1, x.shape[2]) @ v.reshape(-1, v.shape[2]).T  # one product for all classes
        xv = xv.reshape(*x.shape[:2], *v.shape[:2]).swapaxes(1, 2)  # (P, K', g, m')
        v_means = v @ means[:, :, None]  # (K', m', 1)
        x, means = x * root, means * root
        xx = (x @ x.swapaxes(1, 2))[:, None] - xv @ xv.swapaxes(2, 3)
        x_mean = (x @ means.T).swapaxes(1, 2)[..., None] - xv @ v_means  # (P, K', g, 1)
        squares = np.square(means).sum(1) - np.square(v_means).sum((1, 2))
        xy = xx - x_mean
        return xx, xy, xy - x_mean.swapaxes(2, 3) + squares[:, None, None]

    def _lost(self, number: int) -> Array:
        """Return P of a photo left out of `number` rows, (g, g)."""
        return np.eye(self.size) + 1 / (number - self.size)

    def _shared(self, weight: float) -> tuple[float, Array]:
        """Return a, and D (r,) of D² = (a S + β I)⁻¹."""
        share = (1 - weight) / max(len(self.x) - self.size - 1, 1)
        return share, 1 / np.sqrt(share * self.spectrum + self.beta)

    def _own(self, k: int, root: Array, scale: float) -> Array:
        """Return V (m, r) of A⁻¹ = D² - VᵀV, A = scale·S_k + a S + β I; no rows if scale is 0."""
        if scale == 0:
            return self.x[:0]
        u = (self.x[self.labels == k] - self.means[k]) * (root * scale**0.5)
        c = np.linalg.cholesky(u @ u.T + np.eye(len(u)))
        v: Array = (inverse_of_lower(c) @ u) * root
        return v
