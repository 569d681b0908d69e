"""An ensemble of heads: the mean of their logits, that is, the geometric mean of probabilities.

Heads that err differently, such as distances to classes, a linear layer and angles to class means,
are better together than each alone (Hinton 1999, "Products of experts"). All read the same
features: the backbone is passed once.
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
        """Average at least one and at most `MOST_HEADS` heads; τ is not learned.

        Raises:
            ValueError: none or too many heads, one that cannot be refitted or has a fixed way, or
                one that contains a mean.
        """
        super().__init__()
        nested = any(isinstance(part, MeanHead) for head in heads for part in head.modules())
        if not heads or not all(head.refits and head.way is None for head in heads) or nested:
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
        """Return the statistics of all heads, those of head i with the prefix "i."."""
        return {
            f"{number}.{name}": value
            for number, head in enumerate(self.members)
            for name, value in head.fit(features, labels, classes).items()
        }

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        logits = []
        for number, head in enumerate(self.members):
            prefix = f"{number}."
            own = {k.removeprefix(prefix): v for k, v in statistics.items() if k.startswith(prefix)}
            logits.append(head.logits(own, features))
        return self.temperature * torch.stack(logits).mean(0)
