"""Leave-one-out: what a head says of each support image when it is fitted to the others.

For the Mahalanobis head in closed form. Write X for the (N, d) features less their mean, S = XᵀX,
and let image x of class c be left out. What is then inverted for a class k of m images is

    A_k - γ x xᵀ,   A_k = λ_k Σ_k + a S + β I,   a = (1 - λ_k) / (N - 2),   γ = a N / (N - 1),

as a covariance loses a multiple of x xᵀ with x (Welford 1962). A_k depends on x no more. For its
own class it is the same with m - 1 images, λ = (m - 1) / m, and with the deviation y = x - μ_c

    A_c - γ x xᵀ - δ y yᵀ,   A_c = λ S_c / (m - 2) + a S + β I,   δ = λ m / ((m - 1) (m - 2)),

S_c summed over the class, from where the mean of the others is m / (m - 1) y away. Inverses of such
sums of rank one or two are Woodbury's, and ask for nothing but the products of x and y under A_k⁻¹.
All vectors lie in the span of X: so S is diagonalised once, in min(N, d) coordinates, where
a S + β I is a diagonal and A_k differs from it by as many ranks as the class has images. The cost
is a few times that of one fit; no image has a matrix of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot_lite.heads.adapted import AdaptedHead
from fewshot_lite.heads.generated import GeneratedLinearHead
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.mean import MeanHead
from fewshot_lite.heads.means import class_means
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.registry import AnyHead

#: Images at a time, to bound the (images, N) products.
_CHUNK = 1024
#: Up to so many images, a head without a closed form is fitted without each of them; ...
_REFITS = 100
#: ... of more, so many times.
_FOLDS = 10


@torch.no_grad()
def left_out_logits(head: AnyHead, features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Logits of every support image by the head fitted to the others.

    Exact for the Mahalanobis head, for heads that look at class means alone, and for any head of up
    to 100 images. Of more, another head is fitted ten times, each time without a tenth of every
    class (one image at least). A mean of heads is that of what its heads say.

    Args:
        head: fits and gives logits.
        features: (N, d).
        labels: int64 (N,) of 0..K-1, every class present.
        classes: K.

    Returns:
        (N, K) in the features' type, float32 or better, on their device; NaN in the rows of images
        that are their class's only one.

    Raises:
        ValueError: a class without images; a head that was adapted together with the features,
            which no fit to the others undoes (`cross_adaptation` does).
    """
    if isinstance(head, AdaptedHead):
        raise ValueError("an adapted head cannot be fitted without an image")
    if isinstance(head, MeanHead):
        members = [left_out_logits(one, features, labels, classes) for one in head.members]
        return torch.stack(members).mean(0)
    if isinstance(head, MahalanobisHead):
        logits = _mahalanobis(head, features, labels, classes)
    elif isinstance(head, PrototypeHead | GeneratedLinearHead):
        logits = _of_means(head, features, labels, classes)
    else:
        logits = _folded(head, features, labels, classes)
    alone = torch.bincount(labels, minlength=classes)[labels] == 1
    kind = torch.promote_types(features.dtype, torch.float32)
    return logits.to(features.device, kind).masked_fill(alone[:, None], torch.nan)


def _mahalanobis(head: MahalanobisHead, features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The module's text, in float64 on the CPU: differences of nearly equal numbers."""
    prepared = head.prepared(features).double().cpu()
    if len(prepared) < 2:
        return prepared.new_zeros(1, classes)
    support = _Support.of(prepared, labels.cpu(), classes, float(head.beta))
    distances = support.to_others()
    for k, m in enumerate(support.shots.tolist()):
        if m > 1:
            members = (support.labels == k).nonzero().flatten()
            distances[members, k] = support.to_own(k, members)
    return -head.log_temperature.exp().double().cpu() * distances.clamp(min=0)


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
    beta: float

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, classes: int, beta: float) -> _Support:
        """From prepared features (N, d)."""
        x = features - features.mean(0)
        few = x.shape[0] < x.shape[1]
        spectrum, axes = torch.linalg.eigh(x @ x.mT if few else x.mT @ x)
        spectrum = spectrum.clamp(min=0)  # below by rounding only
        x = axes * spectrum.sqrt() if few else x @ axes
        means, shots = class_means(x, labels, classes)
        return cls(x, spectrum, labels, means, shots, beta)

    def to_others(self) -> Tensor:
        """Distances (N, K) of left-out images to all classes as if none were their own."""
        distances = self.x.new_empty(len(self.x), len(self.shots))
        for m in self.shots.unique().tolist():
            weight = m / (m + 1)
            root = self._root(weight)
            gamma = self._lost(weight)
            members = (self.shots == m).nonzero().flatten()
            means = self.means[members]
            scale = weight / (m - 1) if m > 1 else 0.0
            v = torch.stack([self._own(k, root, scale) for k in members.tolist()])  # (K_m, m', r)
            own_means = (v @ means[:, :, None]).squeeze(2)  # (K_m, m')
            shared_means = means * root
            for rows in torch.arange(len(self.x)).split(_CHUNK):
                x = self.x[rows]
                own_x = (x @ v.flatten(0, 1).mT).unflatten(1, own_means.shape)  # (n, K_m, m')
                own_y = own_x - own_means
                shared_x = x * root
                cross = shared_x @ shared_means.mT
                xx = shared_x.square().sum(1)[:, None]
                xy = xx - cross - (own_x * own_y).sum(2)
                yy = xx - 2 * cross + shared_means.square().sum(1) - own_y.square().sum(2)
                xx = xx - own_x.square().sum(2)
                distances[rows[:, None], members] = yy + gamma * xy.square() / (1 - gamma * xx)
        return distances

    def to_own(self, k: int, members: Tensor) -> Tensor:
        """Distances (m,) of the images of class k, each to the class without it."""
        m = len(members)
        weight = (m - 1) / m
        scale = weight / (m - 2) if m > 2 else 0.0
        root = self._root(weight)
        v = self._own(k, root, scale)
        x = self.x[members]
        y = x - self.means[k]
        xx, xy, yy = (
            ((a * root) * (b * root)).sum(1) - ((a @ v.mT) * (b @ v.mT)).sum(1)
            for a, b in ((x, x), (x, y), (y, y))
        )
        gamma, delta = self._lost(weight), scale * m / (m - 1)
        # The lower right of (M⁻¹ - Γ)⁻¹ with M the products of x and y, Γ = diag(γ, δ).
        area = xx * yy - xy.square()
        inner = (yy - gamma * area) / (1 - gamma * xx - delta * yy + gamma * delta * area)
        return (m / (m - 1)) ** 2 * inner

    def _share(self, weight: float) -> float:
        """a."""
        return (1 - weight) / max(len(self.x) - 2, 1)

    def _lost(self, weight: float) -> float:
        """γ."""
        return self._share(weight) * len(self.x) / (len(self.x) - 1)

    def _root(self, weight: float) -> Tensor:
        """D, (r,), of D² = (a S + β I)⁻¹."""
        return (self._share(weight) * self.spectrum + self.beta).rsqrt()

    def _own(self, k: int, root: Tensor, scale: float) -> Tensor:
        """V, (m, r), of A⁻¹ = D² - VᵀV, A = scale·S_k + a S + β I; no rows where scale is 0."""
        if scale == 0:
            return self.x[:0]
        u = (self.x[self.labels == k] - self.means[k]) * (root * scale**0.5)
        c = torch.linalg.cholesky(u @ u.mT + torch.eye(len(u), dtype=u.dtype))
        v: Tensor = torch.linalg.solve_triangular(c, u, upper=False) * root
        return v


def _of_means(
    head: PrototypeHead | GeneratedLinearHead, features: Tensor, labels: Tensor, classes: int
) -> Tensor:
    """For heads whose logit of a class depends on the class's mean alone: a column changes."""
    logits = head.logits(head.fit(features, labels, classes), features)
    if isinstance(head, PrototypeHead):
        features = head.prepared(features)
    features = features.to(logits.dtype)
    means, shots = class_means(features, labels, classes)
    count = shots[labels][:, None]
    others = (means[labels] * count - features) / (count - 1).clamp(min=1)  # (N, d)
    for rows in torch.arange(len(labels), device=labels.device).split(_CHUNK // 4):
        # As many classes of one image each, of which every left-out image looks at its own.
        numbers = torch.arange(len(rows), device=labels.device)
        statistics = head.fit(others[rows], numbers, len(rows))
        logits[rows, labels[rows]] = head.logits(statistics, features[rows]).diagonal()
    return logits


def _folded(head: AnyHead, features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """For any head: a fold an image, or every class dealt out over the folds, image by image."""
    place = torch.arange(len(labels), device=labels.device)
    if len(labels) > _REFITS:
        for k in range(classes):
            members = (labels == k).nonzero().flatten()
            place[members] = torch.arange(len(members), device=labels.device) % _FOLDS
    place[torch.bincount(labels, minlength=classes)[labels] == 1] = -1  # never left out
    logits: Tensor | None = None
    for fold in place.unique().tolist():
        if fold < 0:
            continue
        out = place == fold
        statistics = head.fit(features[~out], labels[~out], classes)
        found = head.logits(statistics, features[out])
        if logits is None:
            logits = found.new_full((len(labels), classes), torch.nan)
        logits[out] = found
    return features.new_full((len(labels), classes), torch.nan) if logits is None else logits
