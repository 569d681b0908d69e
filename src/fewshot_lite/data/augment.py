"""Random crops, flips and colour jitter of a whole batch at once, on the images' device.

torchvision's transforms draw one crop per batch or process one image at a time; a single
`grid_sample` takes a different crop of each image, at a cost negligible beside a training step.

The random numbers, a few per image, are drawn separately on the CPU (`draw_views`, `draw_shift`)
and travel with the uint8 images to the device that applies them. On CPUs the same numbers always
give the same views; a GPU's interpolation differs by about 1e-6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Strength of the augmentation; `Augmentation(1, 1, 0, 0)` leaves images unchanged."""

    min_area: float = 0.35
    """Smallest share of the area that a random resized crop keeps; 1 keeps it all."""
    aspect: float = 4 / 3
    """Largest aspect ratio of a crop; 1 for none."""
    rotation: float = 0.0
    """Largest rotation in degrees, in either direction."""
    colour: float = 0.3
    """Largest relative change of brightness, contrast and saturation."""


@dataclass(frozen=True)
class Views:
    """The random numbers of the views of B images."""

    crops: Tensor
    """(B, 2, 3), affine maps from a view to its image, for `affine_grid`."""
    colours: Tensor | None
    """(3, B, 1, 1, 1), factors of brightness, contrast and saturation; None for no change."""

    def __getitem__(self, part: slice) -> Views:
        """Return the views of a slice of the images."""
        return Views(self.crops[part], None if self.colours is None else self.colours[:, part])


@dataclass(frozen=True)
class Shift:
    """The random numbers of a task's domain shift; see `draw_shift`."""

    kind: int
    numbers: tuple[float, ...] = ()


def draw_views(augmentation: Augmentation, flip: Tensor, generator: torch.Generator) -> Views:
    """Draw a random view of each image.

    Args:
        flip: bool (B,), on the CPU: which images may be mirrored (characters and signs may not).
        generator: CPU generator.
    """
    batch = len(flip)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator)

    area = uniform(augmentation.min_area, 1.0)
    stretch = torch.exp(uniform(-1.0, 1.0) * math.log(augmentation.aspect) / 2)
    # If one side is clamped to 1, the other must stay at min_area or more.
    width = (area.sqrt() * stretch).clamp(augmentation.min_area, 1.0)
    height = (area.sqrt() / stretch).clamp(augmentation.min_area, 1.0)
    angle = uniform(-1.0, 1.0) * math.radians(augmentation.rotation)
    mirror = torch.where(flip & (torch.rand(batch, generator=generator) < 0.5), -1.0, 1.0)
    # In grid_sample's coordinates the image is [-1, 1]²: a crop of half-width w stays inside if its
    # centre lies within ±(1 - w).
    shift_x = uniform(-1.0, 1.0) * (1 - width)
    shift_y = uniform(-1.0, 1.0) * (1 - height)
    cos, sin = torch.cos(angle), torch.sin(angle)
    crops = torch.stack(
        [
            torch.stack([mirror * width * cos, -height * sin, shift_x], dim=1),
            torch.stack([mirror * width * sin, height * cos, shift_y], dim=1),
        ],
        dim=1,
    )
    if augmentation.colour == 0:
        return Views(crops, None)
    jitter = 2 * torch.rand(3, batch, 1, 1, 1, generator=generator) - 1
    return Views(crops, 1 + augmentation.colour * jitter)


def apply_views(images: Tensor, size: int, views: Views) -> Tensor:
    """Apply drawn views to uint8 images (B, 3, S, S), on their device.

    Returns:
        float32 (B, 3, size, size) in [0, 1].
    """
    crops = views.crops.to(images.device, non_blocking=True)
    grid = F.affine_grid(crops, [len(images), 3, size, size], align_corners=False)
    result: Tensor = F.grid_sample(
        images.float() / 255, grid, padding_mode="reflection", align_corners=False
    )
    if views.colours is None:
        return result
    brightness, contrast, saturation = views.colours.to(images.device, non_blocking=True)
    result = result * brightness
    result = result.mean(dim=(1, 2, 3), keepdim=True).lerp(result, contrast)
    result = result.mean(dim=1, keepdim=True).lerp(result, saturation)
    return result.clamp(0, 1)


def random_views(
    images: Tensor,
    size: int,
    augmentation: Augmentation,
    flip: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Draw and apply a random view of each image; arguments of `draw_views` and `apply_views`."""
    return apply_views(images, size, draw_views(augmentation, flip, generator))


def draw_shift(generator: torch.Generator) -> Shift:
    """Draw one domain shift for all images of a task, from a CPU generator.

    Grey, inverted, permuted channels or low contrast: shifted tasks need adapted features, while
    tasks from the backbone's training data teach FiLM nothing.
    """
    kind = int(torch.randint(4, (), generator=generator))
    if kind == 2:
        return Shift(kind, tuple(torch.randperm(3, generator=generator).tolist()))
    if kind == 3:
        return Shift(kind, tuple(torch.rand(2, generator=generator).tolist()))
    return Shift(kind)


def apply_shift(views: Tensor, shift: Shift) -> Tensor:
    """Apply a drawn domain shift to views, float (B, 3, S, S) in [0, 1]."""
    if shift.kind == 0:
        return views.mean(dim=1, keepdim=True).expand_as(views)
    if shift.kind == 1:
        return 1 - views
    if shift.kind == 2:
        return views[:, list(map(int, shift.numbers))]
    contrast, level = shift.numbers
    faded: Tensor = (views - 0.5) * (0.3 + 0.4 * contrast) + 0.3 + 0.4 * level
    return faded.clamp(0, 1)


def quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Rotate images (B, 3, S, S) by quarter turns, int64 (B,) of 0..3.

    Rotated characters are other characters: new classes of Omniglot (Santoro et al. 2016, section
    4.1).
    """
    turned = images.clone()
    for count in (1, 2, 3):
        rows = (turns == count).to(images.device)
        turned[rows] = images[rows].rot90(count, (2, 3))
    return turned
