"""A task before augmentation: uint8 images, and the random numbers of their views.

Workers that prepare it do no arithmetic on pixels, and a quarter of the bytes is transferred; the
device computes crops, colours and normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewshot_lite.data.augment import Shift, Views, apply_shift, apply_views, quarter_turns
from fewshot_lite.data.episode_images import Replaced
from fewshot_lite.learners.task import Task

#: Images augmented at a time, which limits temporary memory.
_CHUNK = 64


@dataclass(frozen=True)
class PreparedTask:
    """N support and Q query images, not augmented yet."""

    pixels: Tensor
    """uint8 (N + Q, 3, S, S), support first."""
    support_labels: Tensor
    """int64 (N,)."""
    query_labels: Tensor
    """int64 (Q,)."""
    classes: int
    size: int
    """Side of the views."""
    views: Views | None
    """None for no augmentation."""
    shift: Shift | None
    turns: Tensor | None = None
    """int64 (N + Q,): quarter turns of each image, applied first; None for none."""
    replaced: tuple[Replaced, ...] = ()
    """Images that could not be read and were replaced."""

    def pin_memory(self) -> PreparedTask:
        """Return the task with its images in pinned memory."""
        return replace(self, pixels=self.pixels.pin_memory())

    def on(self, device: torch.device) -> Task:
        """Return the task on a device, augmented there: float32 images in [0, 1]."""
        pixels = self.pixels.to(device, non_blocking=True)
        result = torch.empty(len(pixels), 3, self.size, self.size, device=device)
        for start in range(0, len(pixels), _CHUNK):
            part = slice(start, start + _CHUNK)
            images = pixels[part]
            if self.turns is not None:
                images = quarter_turns(images, self.turns[part])
            views = images.float() / 255
            if self.views is not None:
                views = apply_views(images, self.size, self.views[part])
            result[part] = views if self.shift is None else apply_shift(views, self.shift)
        split = len(self.support_labels)
        return Task(
            support=result[:split],
            support_labels=self.support_labels.to(device, non_blocking=True),
            query=result[split:],
            query_labels=self.query_labels.to(device, non_blocking=True),
            classes=self.classes,
        )
