"""A task (episode): support images to adapt with, query images to be judged on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Task:
    """One episode. Images are (·, 3, S, S), uint8 or float in [0, 1]; labels int64 of 0..K-1."""

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    classes: int
    """K, the way."""

    def to(self, device: torch.device) -> Task:
        """The same task on a device."""
        return Task(
            self.support.to(device, non_blocking=True),
            self.support_labels.to(device, non_blocking=True),
            self.query.to(device, non_blocking=True),
            self.query_labels.to(device, non_blocking=True),
            self.classes,
        )
