"""Several heads as one: the mean of their logits, that is, the geometric mean of probabilities.

Heads that err differently, as distances to classes, a linear layer between them and angles to their
means do, are better together than each alone (Hinton 1999, "Products of experts"), and all read the
same features: the backbone is passed once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewshot_lite.heads import Statistics
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.ridge import RidgeHead

Member = MahalanobisHead | RidgeHead | PrototypeHead


class MeanHead(nn.Module):
    """logit_k(q) = mean over heads of their logits."""

    def __init__(self, heads: Sequence[Member]) -> None:
        """Of these heads, at least one."""
        super().__init__()
        self.heads = nn.ModuleList(heads)

    @property
    def members(self) -> list[Member]:
        """The heads that are averaged."""
        return [head for head in self.heads if isinstance(head, Member)]

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Statistics of each head, those of head i under "i.", from (N, d) with labels (N,).

        Raises:
            ValueError: a class without images.
        """
        return {
            f"{number}.{name}": value
            for number, head in enumerate(self.members)
            for name, value in head.fit(features, labels, classes).items()
        }

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        """Logits (Q, K) of query features (Q, d)."""
        found = []
        for number, head in enumerate(self.members):
            start = f"{number}."
            own = {k.removeprefix(start): v for k, v in statistics.items() if k.startswith(start)}
            found.append(head.logits(own, features))
        return torch.stack(found).mean(0)
