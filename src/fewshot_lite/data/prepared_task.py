"""A task on its way to the device: images as uint8, and the few numbers their views are made by.

Whoever prepares it does no arithmetic on pixels, and a quarter of the bytes travels; crops, colours
and normalisation are the device's work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewshot_lite.data.augment import Shift, Views, apply_shift, apply_views, quarter_turns
from fewshot_lite.data.episode_images import Replaced
from fewshot_lite.learners.task import Task

#: Images whose views are made at a time: beyond the views themselves, what that takes is small.
_CHUNK = 64


@dataclass(frozen=True)
class PreparedTask:
    """N support images and Q queries, not augmented yet."""

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
    """None leaves images as they are."""
    shift: Shift | None
    turns: Tensor | None = None
    """int64 (N + Q,): quarter turns of each image, before anything else; None for none."""
    replaced: tuple[Replaced, ...] = ()
    """Images that could not be read, and were replaced."""

    def pin_memory(self) -> PreparedTask:
        """With images where a CUDA device fetches them by itself."""
        return replace(self, pixels=self.pixels.pin_memory())

    def on(self, device: torch.device) -> Task:
        """The task on a device: float32 images in [0, 1], augmented there."""
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
