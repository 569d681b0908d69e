"""Random crops, flips and colours of a whole batch at once, on the device the images are on.

torchvision's transforms draw one crop for a batch or work image by image; one `grid_sample` draws
a crop of its own for each image at a cost that does not show beside a training step.

What is random is drawn on the CPU, by itself (`draw_views`, `draw_shift`): a few numbers an image,
which travel beside the uint8 images to the device that applies them. The same numbers give the same
views on the CPU wherever they were drawn; a GPU's interpolation rounds otherwise, to about 1e-6.
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


@dataclass(frozen=True)
class Views:
    """The random numbers behind the views of B images."""

    crops: Tensor
    """(B, 2, 3), from places in a view to places in the image, as `affine_grid` takes them."""
    colours: Tensor | None
    """(3, B, 1, 1, 1), factors of brightness, contrast and saturation; None leaves colours."""

    def __getitem__(self, part: slice) -> Views:
        """The views of some of the images."""
        return Views(self.crops[part], None if self.colours is None else self.colours[:, part])


@dataclass(frozen=True)
class Shift:
    """The random numbers behind a task's change of appearance; see `draw_shift`."""

    kind: int
    numbers: tuple[float, ...] = ()


def draw_views(augmentation: Augmentation, flip: Tensor, generator: torch.Generator) -> Views:
    """Draw a random view of each image.

    Args:
        flip: bool (B,), on the CPU: which images may be mirrored (characters and signs may not).
        generator: CPU generator that all randomness comes from.
    """
    batch = len(flip)

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
    """The views that were drawn, on the device of the images.

    Args:
        images: uint8 (B, 3, S, S).
        size: side of the views.

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
    """A random view of each image: drawn and applied; the arguments are those of both.

    Returns:
        float32 (B, 3, size, size) in [0, 1].
    """
    return apply_views(images, size, draw_views(augmentation, flip, generator))


def draw_shift(generator: torch.Generator) -> Shift:
    """Draw one change of appearance for all images of a task, as if it came from another domain.

    Grey, inverted, other colour channels or low contrast: what makes a backbone's features need
    adapting, where tasks of the data that it was trained on teach FiLM nothing.

    Args:
        generator: CPU generator that all randomness comes from.
    """
    kind = int(torch.randint(4, (), generator=generator))
    if kind == 2:
        return Shift(kind, tuple(torch.randperm(3, generator=generator).tolist()))
    if kind == 3:
        return Shift(kind, tuple(torch.rand(2, generator=generator).tolist()))
    return Shift(kind)


def apply_shift(views: Tensor, shift: Shift) -> Tensor:
    """The change that was drawn; views are float (B, 3, S, S) in [0, 1]."""
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
