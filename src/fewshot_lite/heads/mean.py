"""Several heads as one: the mean of their logits, that is, the geometric mean of probabilities.

Heads that err differently, as distances to classes, a linear layer between them and angles to their
means do, are better together than each alone (Hinton 1999, "Products of experts"), and all read the
same features: the backbone is passed once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from fewshot_lite.heads.base import Head, Statistics
from fewshot_lite.heads.in_numpy import MOST_HEADS


class MeanHead(Head):
    """logit_k(q) = τ times the mean over heads of their logits."""

    kind: ClassVar[str] = "mean"

    def __init__(self, heads: Sequence[Head], temperature: float = 1.0) -> None:
        """The mean of these heads, at least one and at most `MOST_HEADS`; τ is not learned.

        Raises:
            ValueError: none or too many, one that fits no features or not any number of classes, or
                one with a mean in it.
        """
        super().__init__()
        apart = any(isinstance(part, MeanHead) for head in heads for part in head.modules())
        if not heads or not all(head.refits and head.way is None for head in heads) or apart:
            raise ValueError("no heads that could be averaged")
        if len(heads) > MOST_HEADS:
            raise ValueError(f"{len(heads)} heads to average")
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature {temperature}")
        self.heads = nn.ModuleList(heads)
        self.temperature = float(temperature)

    @property
    def members(self) -> Iterator[Head]:
        """The heads that are averaged."""
        return iter(cast("Iterator[Head]", self.heads))

    def options(self) -> dict[str, Any]:
        return {
            "heads": [head.describe() for head in self.members],
            "temperature": self.temperature,
        }

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
        found = []
        for number, head in enumerate(self.members):
            start = f"{number}."
            own = {k.removeprefix(start): v for k, v in statistics.items() if k.startswith(start)}
            found.append(head.logits(own, features))
        return self.temperature * torch.stack(found).mean(0)
