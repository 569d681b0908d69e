"""Heads: support features and labels to statistics, statistics and query features to logits.

A head is two pure functions of tensors, so that LITE can cut the graph between them: `fit` depends
on the support set alone and is run once a task, `logits` once a micro-batch of queries.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

#: What a head keeps of a support set: names to tensors (float ones carry gradients).
Statistics = dict[str, Tensor]


class Head(Protocol):
    """The two functions of a head."""

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Statistics:
        """Statistics of a support set.

        Args:
            features: (N, d).
            labels: int64 (N,), each of 0..K-1 at least once.
            classes: K.
        """
        ...

    def logits(self, statistics: Statistics, features: Tensor) -> Tensor:
        """Logits (Q, K) of query features (Q, d)."""
        ...
