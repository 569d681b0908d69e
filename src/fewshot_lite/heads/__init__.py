"""Heads: support features and labels to statistics, statistics and query features to logits.

A head is two pure functions of tensors, so that LITE can cut the graph between them: `fit` depends
on the support set alone and is run once a task, `logits` once a micro-batch of queries.
"""

from __future__ import annotations

from torch import Tensor

#: What a head keeps of a support set: names to tensors (float ones carry gradients).
Statistics = dict[str, Tensor]
