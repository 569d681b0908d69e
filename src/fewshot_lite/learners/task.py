"""Tasks (episodes): a support set to adapt to, and a query set to evaluate on."""

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
        """Check the labels; on a GPU an invalid label would abort the process.

        Raises:
            ValueError: images and labels differ in number, a side is empty, a label is not in
                0..K-1, or a class has no support image.
        """
        sides = (
            ("support", self.support, self.support_labels),
            ("query", self.query, self.query_labels),
        )
        for name, images, labels in sides:
            if len(images) != len(labels) or len(labels) == 0:
                raise ValueError(f"{name}: {len(images)} images with {len(labels)} labels")
            invalid = set(labels.tolist()) - set(range(self.classes))
            if invalid:
                raise ValueError(
                    f"{name}: label {min(invalid)} is no class of this task; "
                    f"its {self.classes} classes are 0 to {self.classes - 1}"
                )
        missing = set(range(self.classes)) - set(self.support_labels.tolist())
        if missing:
            raise ValueError(f"class {min(missing)}: every class needs a support image")

    def to(self, device: torch.device) -> Task:
        """Return the task with its tensors on a device."""
        return Task(
            self.support.to(device, non_blocking=True),
            self.support_labels.to(device, non_blocking=True),
            self.query.to(device, non_blocking=True),
            self.query_labels.to(device, non_blocking=True),
            self.classes,
        )
