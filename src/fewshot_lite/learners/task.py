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

    def check(self) -> None:
        """Refuse a task that has no loss, in words: on a GPU a wrong label ends the process.

        Raises:
            ValueError: images without labels or labels without images, no queries, a label that is
                none of 0..K-1 (of queries: a class that the support does not have), or a class
                without a support image.
        """
        sides = (
            ("support", self.support, self.support_labels),
            ("query", self.query, self.query_labels),
        )
        for name, images, labels in sides:
            if len(images) != len(labels) or len(labels) == 0:
                raise ValueError(f"{name}: {len(images)} images with {len(labels)} labels")
            strange = set(labels.tolist()) - set(range(self.classes))
            if strange:
                raise ValueError(
                    f"{name}: label {min(strange)} is no class of this task; "
                    f"its {self.classes} classes are 0 to {self.classes - 1}"
                )
        missing = set(range(self.classes)) - set(self.support_labels.tolist())
        if missing:
            raise ValueError(f"class {min(missing)}: every class needs a support image")

    def to(self, device: torch.device) -> Task:
        """The same task on a device."""
        return Task(
            self.support.to(device, non_blocking=True),
            self.support_labels.to(device, non_blocking=True),
            self.query.to(device, non_blocking=True),
            self.query_labels.to(device, non_blocking=True),
            self.classes,
        )
