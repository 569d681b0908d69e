"""Random views: crops that stay inside the image and keep the area they must, flips, colours."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.data.augment import (
    Augmentation,
    apply_shift,
    draw_shift,
    quarter_turns,
    random_views,
)

NONE = Augmentation(min_area=1, aspect=1, rotation=0, colour=0)


def images(batch: int, size: int = 32) -> Tensor:
    return torch.randint(256, (batch, 3, size, size), dtype=torch.uint8)


def ramps(batch: int, size: int = 64) -> Tensor:
    """Red grows to the right and green downwards: a view tells where its pixels come from."""
    ramp = torch.arange(size, dtype=torch.uint8) * (256 // size)
    right = ramp.expand(size, size)
    return torch.stack([right, right.T, torch.zeros_like(right)]).expand(batch, -1, -1, -1)


def views(
    pixels: Tensor, augmentation: Augmentation, *, size: int = 32, flip: bool = True, seed: int = 0
) -> Tensor:
    flips = torch.full((len(pixels),), flip)
    return random_views(pixels, size, augmentation, flips, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [16, 32, 50])
@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(0.05, 2, 180, 1), NONE])
def test_views_are_floats_between_0_and_1(augmentation: Augmentation, size: int) -> None:
    result = views(images(20), augmentation, size=size)
    assert (result.dtype, result.shape) == (torch.float32, (20, 3, size, size))
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize("augmentation", [NONE, Augmentation(min_area=1, colour=0)])
def test_without_any_strength_images_stay_as_they_are(augmentation: Augmentation) -> None:
    pixels = images(8)
    result = views(pixels, augmentation, flip=False)
    torch.testing.assert_close(result, pixels.float() / 255, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [20, 64, 96])
def test_without_any_strength_images_are_resized(size: int) -> None:
    pixels = ramps(2)
    resized = F.interpolate(pixels.float() / 255, (size, size), mode="bilinear")
    result = views(pixels, NONE, size=size, flip=False)
    torch.testing.assert_close(result, resized, atol=1e-5, rtol=0)


def test_the_generator_alone_decides() -> None:
    pixels, augmentation = images(8), Augmentation(rotation=20)
    first = views(pixels, augmentation, seed=1)
    torch.rand(5)
    assert torch.equal(views(pixels, augmentation, seed=1), first)
    assert not torch.equal(views(pixels, augmentation, seed=2), first)
    assert not torch.equal(first[0], first[1])


def test_images_that_may_not_be_mirrored_never_are_and_half_of_the_others_are() -> None:
    may = torch.arange(1000) % 2 == 0
    result = random_views(ramps(1000), 8, Augmentation(), may, torch.Generator().manual_seed(0))
    mirrored = result[:, 0, :, 0].mean(1) > result[:, 0, :, -1].mean(1)
    assert not mirrored[~may].any()
    assert 0.4 < mirrored[may].float().mean() < 0.6
    upright = result[:, 1, 0].mean(1) < result[:, 1, -1].mean(1)
    assert upright.all()


def test_a_flip_alone_mirrors_left_and_right() -> None:
    pixels = images(40)
    result = views(pixels, NONE, flip=True)
    plain = pixels.float() / 255
    mirrored = (result - plain).abs().amax((1, 2, 3)) > 0.1
    assert 5 < mirrored.sum() < 35
    plain[mirrored] = plain[mirrored].flip(-1)
    torch.testing.assert_close(result, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("min_area", "aspect"), [(0.35, 4 / 3), (0.05, 3), (0.9, 4 / 3), (1, 2)])
def test_crops_stay_inside_the_image_and_keep_their_share_of_it(
    min_area: float, aspect: float
) -> None:
    augmentation = Augmentation(min_area, aspect, rotation=0, colour=0)
    result = views(ramps(500), augmentation, size=8, flip=False) * 255
    # Each pixel lies one step right of (below) the one before it: none is reflected at a border.
    right, down = result[:, 0].diff(dim=2), result[:, 1].diff(dim=1)
    width, height = right.mean((1, 2)) * 8 / 256, down.mean((1, 2)) * 8 / 256
    inner = right[:, :, 1:-1], down[:, 1:-1]  # a border pixel's outer half has no neighbour
    for steps, side in zip(inner, (width, height), strict=True):
        assert steps.min() > 0
        assert side.max() < 1.01
    assert (width * height).min() > 0.97 * min_area
    stretch = torch.maximum(width / height, height / width)
    assert stretch.max() < 1.03 * aspect


def test_rotation_turns_about_the_centre_of_the_crop() -> None:
    augmentation = Augmentation(min_area=1, aspect=1, rotation=30, colour=0)
    result = views(ramps(200), augmentation, size=33, flip=False)
    centre, across = result[:, :2, 16, 16], result[:, 1, 16, 20] - result[:, 1, 16, 12]
    torch.testing.assert_close(centre, torch.full_like(centre, 126 / 255), atol=1e-4, rtol=0)
    angle = torch.asin((across * 255 / 256 * 33 / 8).clamp(-1, 1)).rad2deg()
    assert 25 < angle.max() < 31
    assert -31 < angle.min() < -25


def test_colours_change_by_no_more_than_their_strength() -> None:
    grey = torch.full((500, 3, 4, 4), 100, dtype=torch.uint8)
    augmentation = Augmentation(min_area=1, aspect=1, rotation=0, colour=0.3)
    brightness = views(grey, augmentation, size=4)[:, 0, 0, 0] * 255 / 100
    assert 0.7 - 1e-5 <= brightness.min() < 0.75
    assert 1.25 < brightness.max() <= 1.3 + 1e-5


def test_a_domain_shift_is_one_of_four_kinds_for_all_images_of_a_task() -> None:
    pixels = torch.rand(6, 3, 8, 8)
    kinds: set[str] = set()
    for seed in range(60):
        shifted = apply_shift(pixels, draw_shift(torch.Generator().manual_seed(seed)))
        assert shifted.shape == pixels.shape
        assert shifted.min() >= 0
        assert shifted.max() <= 1
        assert torch.equal(
            shifted, apply_shift(pixels, draw_shift(torch.Generator().manual_seed(seed)))
        )
        if torch.equal(shifted[:, 0], shifted[:, 1]):
            kinds.add("grey")
        elif torch.equal(shifted, 1 - pixels):
            kinds.add("inverted")
        elif torch.equal(shifted.sort(dim=1).values, pixels.sort(dim=1).values):
            kinds.add("channels")
        else:
            kinds.add("contrast")
            assert shifted.std() < 0.71 * pixels.std()
    assert kinds == {"grey", "inverted", "channels", "contrast"}


def test_low_contrast_keeps_white_and_black_in_range() -> None:
    extremes = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    for seed in range(1500):
        shifted = apply_shift(extremes, draw_shift(torch.Generator().manual_seed(seed)))
        assert shifted.min() >= 0
        assert shifted.max() <= 1


def test_quarter_turns() -> None:
    images = torch.rand(4, 3, 5, 5)
    turned = quarter_turns(images, torch.arange(4))
    for count, (before, after) in enumerate(zip(images, turned, strict=True)):
        assert torch.equal(after, before.rot90(count, (1, 2)))
