"""Copies of a photo are known as such, other photos of the same kind are not."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from clouds import cropped, photo
from fewshot_lite.images import fingerprints
from fewshot_lite.images.fingerprints import SAME, Fingerprints, similar_pairs, similarity
from fewshot_lite.images.photo import load_square

N = 8


def saved(image: Image.Image, kind: str = "JPEG", **options: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(buffer)


def brighter(image: Image.Image) -> Image.Image:
    return image.point(lambda value: min(255, 1.1 * value + 8))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda image: image,
    "JPEG, poor": lambda image: saved(image, quality=30),
    "JPEG, good": lambda image: saved(image, quality=90),
    "WebP": lambda image: saved(image, "WEBP", quality=60),
    "a quarter": lambda image: image.resize((image.width // 4, image.height // 4)),
    "half": lambda image: saved(image.resize((image.width // 2, image.height // 2))),
    "double": lambda image: image.resize((image.width * 2, image.height * 2)),
    "brighter": brighter,
    "cropped at one corner": lambda image: cropped(image, 0, 0),
    "cropped at the other": lambda image: cropped(image, 1, 1),
    "cropped all around": lambda image: cropped(image, 0.5, 0.5),
    "cropped, halved and saved": lambda image: saved(
        cropped(image, 0.3, 0.8).resize((91, 68)), quality=50
    ),
}


def fingerprints_of(images: list[Image.Image], folder: Path, size: int = 96) -> Fingerprints:
    found = Fingerprints(len(images))
    for row, image in enumerate(images):
        image.convert("RGB").save(folder / "photo.png")
        found.set(row, load_square(folder / "photo.png", size))
    return found


def rows(found: Fingerprints) -> npt.NDArray[np.int64]:
    return np.arange(len(found))


def pairs(found: Fingerprints, **options: int) -> list[tuple[int, int]]:
    return [(a, b) for a, b, _ in similar_pairs(found, rows(found), **options)]


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES.keys())
def test_copies_are_found_and_nothing_else(
    tmp_path: Path, change: Callable[[Image.Image], Image.Image]
) -> None:
    originals = [photo(seed) for seed in range(N)]
    found = fingerprints_of([*originals, *map(change, originals)], tmp_path)
    assert pairs(found) == [(i, i + N) for i in range(N)]


@pytest.mark.parametrize("size", [16, 32, 84, 224])
def test_copies_are_found_at_any_size_of_the_model(tmp_path: Path, size: int) -> None:
    originals = [photo(seed) for seed in range(N)]
    copies = [saved(image, quality=80) for image in originals]
    found = fingerprints_of([*originals, *copies], tmp_path, size)
    assert pairs(found) == [(i, i + N) for i in range(N)]


def test_mirrored_inverted_recoloured_and_half_hidden_photos_are_others(tmp_path: Path) -> None:
    one = photo(0)
    red, green, blue = one.split()
    hidden = one.copy()
    hidden.paste(photo(1).crop((0, 0, 96, 144)), (0, 0))
    others = [
        one.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        one.rotate(90),
        one.point(lambda value: 255 - value),
        Image.merge("RGB", (blue, red, green)),
        hidden,
        cropped(one, 0.5, 0.5, 0.7),
    ]
    found = fingerprints_of([one, *others], tmp_path)
    assert not [pair for pair in pairs(found) if 0 in pair]


def test_plain_photos_have_nothing_to_compare(tmp_path: Path) -> None:
    images = [Image.new("RGB", (64, 64), (v, v, v)) for v in (0, 100, 101, 255)]
    assert pairs(fingerprints_of(images, tmp_path)) == []


def test_the_size_of_chunks_does_not_matter(tmp_path: Path) -> None:
    originals = [photo(seed) for seed in range(5)]
    found = fingerprints_of([*originals, *originals[::-1], *map(brighter, originals)], tmp_path)
    expected = pairs(found)
    assert len(expected) == 15
    for chunk in (1, 4, 7):
        assert pairs(found, chunk=chunk) == expected


def test_of_many_alike_each_goes_on_with_some(tmp_path: Path) -> None:
    one = photo(0)
    found = fingerprints_of([one] * 30, tmp_path)
    linked = pairs(found, most=3, chunk=8)
    assert len(linked) <= 30 * 3
    assert {i for pair in linked for i in pair} == set(range(30))


def test_only_the_rows_asked_for_are_compared(tmp_path: Path) -> None:
    found = fingerprints_of([photo(0), photo(1), photo(0), photo(0)], tmp_path)
    assert [pair[:2] for pair in similar_pairs(found, np.array([0, 1, 3]))] == [(0, 3)]
    assert similar_pairs(found, np.array([], dtype=np.int64)) == []
    assert similar_pairs(found, np.array([2])) == []


def test_similarity_is_that_of_pairs_whichever_comes_first(tmp_path: Path) -> None:
    one = photo(0)
    grey = fingerprints_of([one, photo(1), cropped(one, 0, 1)], tmp_path).grey
    first, all_three, tangents = np.zeros(3, int), np.arange(3), fingerprints.tangents_of(grey)
    for pair in ((first, all_three), (all_three, first)):
        scores = similarity(grey, tangents, *pair)
        assert scores[0] == pytest.approx(1, abs=1e-5)
        assert scores[1] < 0.6
        assert scores[2] >= SAME


def test_the_cosines_are_orthonormal() -> None:
    rows = fingerprints._cosines(fingerprints.SIDE)
    np.testing.assert_allclose(rows @ rows.T, np.eye(fingerprints.SIDE), atol=1e-5)


def test_a_shift_and_a_scale_are_undone(tmp_path: Path) -> None:
    grey = fingerprints_of([photo(3)], tmp_path).grey.astype(np.float32)
    moves = np.array([[1.2, -0.7, 0.04]], dtype=np.float32)
    moved = fingerprints._warped(grey, moves)
    again = fingerprints._moved_onto(grey, moved)
    inside = slice(3, -3)
    before = np.abs(grey - moved)[:, inside, inside].mean()
    assert np.abs(again - moved)[:, inside, inside].mean() < before / 10
