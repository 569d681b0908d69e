"""Novelty detection: photos of none of the classes (out-of-distribution).

A softmax sums to 1 over the classes, so it cannot detect them; a distance can. The novelty score,
called strangeness in what `classify` writes, is the squared Mahalanobis distance to the nearest
class (Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples"), in
features scaled to one length, whatever head names the classes. Of the scores compared in
docs/benchmarks.md none is better overall: the energy of the head's logits detects
other classes of the same data set a little better (AUROC 72 to 75 against 70 to 73 with
EfficientNet-Lite0, 5 and 10 shots), and photos of other data sets worse.

A new photo lies (n + 1) / n as far from the mean of n photos as from that of infinitely many. So
where shots differ, the distance to class k is multiplied by n_k / (n_k + 1), relative to that of
the largest class.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.heads.in_numpy import as_array
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.personal.novelty_threshold import LENGTH, class_weights


class NoveltyDetector:
    """Novelty scores of photos relative to a support set."""

    def __init__(self, features: Tensor, labels: Tensor, classes: int) -> None:
        """Fit to a support set.

        Args:
            features: float32 (N, d).
            labels: int64 (N,) of 0..K-1, every class present.
            classes: K.
        """
        # The temperature is 1: a logit is minus a distance.
        self._head = MahalanobisHead(beta=1.0, temperature=1.0).to(features.device)
        self._head.requires_grad_(False)
        self._statistics = self._head.fit(_scaled(features), labels, classes)
        shots = as_array(torch.bincount(labels, minlength=classes))
        self._weights = torch.from_numpy(class_weights(shots)).to(features)  # (K,)

    def strangeness(self, features: Tensor) -> Tensor:
        """Novelty scores, float32 (B,), of features (B, d): the larger, the more novel."""
        distances = self._head.distances(self._statistics, _scaled(features))
        return (self._weights * distances).amin(1).float()


def _scaled(features: Tensor) -> Tensor:
    kind = torch.promote_types(features.dtype, torch.float32)
    return LENGTH * F.normalize(features.to(kind), dim=1)
