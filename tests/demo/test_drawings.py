"""Drawings: the same seed gives the same photo, and no photo depends on how many are asked for."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from random import Random

import pytest
from PIL import Image, ImageChops, ImageStat

from fewshot_lite.demo.drawings import _ARTISTS, KINDS, _Pen, _placed, draw, write_folder


def _difference(a: Image.Image, b: Image.Image) -> float:
    """The mean absolute difference of two images, in grey levels."""
    bands = ImageStat.Stat(ImageChops.difference(a, b)).mean
    return sum(bands) / len(bands)


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_pixels(kind: str) -> None:
    assert draw(kind, Random(5), 48).tobytes() == draw(kind, Random(5), 48).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_drawings_of_a_kind_differ(kind: str) -> None:
    photos = [draw(kind, Random(seed), 48) for seed in range(4)]
    assert all(_difference(a, b) > 5 for a, b in combinations(photos, 2))


@pytest.mark.parametrize("size", [32, 65, 256])
def test_size_and_mode(size: int) -> None:
    photo = draw(KINDS[0], Random(0), size)
    assert (photo.size, photo.mode) == ((size, size), "RGB")


@pytest.mark.parametrize("kind", KINDS)
def test_the_thing_fills_much_of_the_frame_and_is_whole(kind: str) -> None:
    for seed in range(20):
        pen, rng = _Pen(96), Random(seed)
        _ARTISTS[kind](pen, rng)
        left, top, right, bottom = _placed(pen.layer, rng).getbbox() or (0, 0, 0, 0)
        assert 0.45 * 96 < max(right - left, bottom - top) < 0.92 * 96
        assert min(left, top) > 0
        assert max(right, bottom) < 96


def test_unknown_kind_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="teapot.*" + ".*".join(KINDS)):
        draw("teapot", Random(0))
    with pytest.raises(ValueError, match="teapot.*" + ".*".join(KINDS)):
        write_folder(tmp_path, [KINDS[0], "teapot"], per_kind=1, seed=0, size=32)
    assert list(tmp_path.iterdir()) == []


def test_folder_layout(tmp_path: Path) -> None:
    paths = write_folder(tmp_path / "new", ["mug", "key"], per_kind=2, seed=3, size=40)
    names = ["mug/mug_01.jpg", "mug/mug_02.jpg", "key/key_01.jpg", "key/key_02.jpg"]
    assert paths == [tmp_path / "new" / name for name in names]
    for path in paths:
        with Image.open(path) as photo:
            assert (photo.format, photo.mode, photo.size) == ("JPEG", "RGB", (40, 40))


def test_an_image_does_not_depend_on_how_many_are_asked_for(tmp_path: Path) -> None:
    few = write_folder(tmp_path / "few", ["fish"], per_kind=1, seed=3, size=40)
    more = write_folder(tmp_path / "more", ["leaf", "fish"], per_kind=3, seed=3, size=40)
    other = write_folder(tmp_path / "other", ["fish"], per_kind=1, seed=4, size=40)
    assert few[0].read_bytes() == more[3].read_bytes()
    assert few[0].read_bytes() != other[0].read_bytes()
    assert len({path.read_bytes() for path in more}) == len(more)
