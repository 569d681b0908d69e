"""Random crops, flips and colours of a whole batch at once, on the device the images are on.

torchvision's transforms draw one crop for a batch or work image by image; one `grid_sample` draws
a crop of its own for each image at a cost that does not show beside a training step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """How far random views go; `Augmentation(1, 1, 0, 0)` leaves the images as they are."""

    min_area: float = 0.35
    """Smallest share of the area that a crop keeps (random resized crop); 1 keeps it all."""
    aspect: float = 4 / 3
    """Largest stretch of a crop's sides against each other; 1 for none."""
    rotation: float = 0.0
    """Largest rotation, in degrees, either way."""
    colour: float = 0.3
    """Largest relative change of brightness, contrast and saturation."""


def random_views(
    images: Tensor,
    size: int,
    augmentation: Augmentation,
    flip: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """A random view of each image.

    Args:
        images: uint8 (B, 3, S, S).
        size: side of the views.
        flip: bool (B,), on the CPU: which images may be mirrored (characters and signs may not).
        generator: CPU generator that all randomness comes from.

    Returns:
        float32 (B, 3, size, size) in [0, 1].
    """
    batch = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator)

    area = uniform(augmentation.min_area, 1.0)
    stretch = torch.exp(uniform(-1.0, 1.0) * math.log(augmentation.aspect) / 2)
    # Where a side is cut off at 1 the crop would lose area: the other stays at min_area or more.
    width = (area.sqrt() * stretch).clamp(augmentation.min_area, 1.0)
    height = (area.sqrt() / stretch).clamp(augmentation.min_area, 1.0)
    angle = uniform(-1.0, 1.0) * math.radians(augmentation.rotation)
    mirror = torch.where(flip & (torch.rand(batch, generator=generator) < 0.5), -1.0, 1.0)
    # In grid_sample's coordinates the image is [-1, 1]²: a crop of half-width w stays inside if
    # its centre lies within ±(1 - w).
    shift_x = uniform(-1.0, 1.0) * (1 - width)
    shift_y = uniform(-1.0, 1.0) * (1 - height)
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.stack(
        [
            torch.stack([mirror * width * cos, -height * sin, shift_x], dim=1),
            torch.stack([mirror * width * sin, height * cos, shift_y], dim=1),
        ],
        dim=1,
    )  # (B, 2, 3)
    grid = F.affine_grid(theta.to(images.device), [batch, 3, size, size], align_corners=False)
    views = F.grid_sample(
        images.float() / 255, grid, padding_mode="reflection", align_corners=False
    )
    return _jitter(views, augmentation.colour, generator)


def _jitter(views: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    if strength == 0:
        return views
    factors = 1 + strength * (2 * torch.rand(3, len(views), 1, 1, 1, generator=generator) - 1)
    brightness, contrast, saturation = factors.to(views.device)
    views = views * brightness
    views = views.mean(dim=(1, 2, 3), keepdim=True).lerp(views, contrast)
    views = views.mean(dim=1, keepdim=True).lerp(views, saturation)
    return views.clamp(0, 1)


def domain_shift(views: Tensor, generator: torch.Generator) -> Tensor:
    """One change of appearance for all images of a task, as if it came from another domain.

    Grey, inverted, other colour channels or low contrast: what makes a backbone's features need
    adapting, where tasks of the data that it was trained on teach FiLM nothing.

    Args:
        views: float (B, 3, S, S) in [0, 1].
        generator: CPU generator that all randomness comes from.

    Returns:
        As `views`.
    """
    kind = int(torch.randint(4, (), generator=generator))
    if kind == 0:
        return views.mean(dim=1, keepdim=True).expand_as(views)
    if kind == 1:
        return 1 - views
    if kind == 2:
        return views[:, torch.randperm(3, generator=generator)]
    contrast, level = torch.rand(2, generator=generator).tolist()
    faded: Tensor = (views - 0.5) * (0.3 + 0.4 * contrast) + 0.3 + 0.4 * level
    return faded.clamp(0, 1)


def quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Each image turned by so many quarter turns: of characters, other characters.

    Santoro et al. 2016, section 4.1, make new classes of Omniglot that way.

    Args:
        images: (B, 3, S, S).
        turns: int64 (B,) of 0..3.
    """
    turned = images.clone()
    for count in (1, 2, 3):
        chosen = (turns == count).to(images.device)
        turned[chosen] = images[chosen].rot90(count, (2, 3))
    return turned
