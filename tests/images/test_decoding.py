"""Many photos at once: what is seen of each, and an end in the middle."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from fewshot_lite.images.decoding import decode_pixels, look_through, worker_count
from fewshot_lite.images.photo import Square, load_square


@pytest.fixture
def paths(picture: Image.Image, tmp_path: Path) -> list[Path]:
    """Four photos of different sizes; that at 1 cannot be read."""
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        picture.resize((50 + number, 60)).save(path)
    paths[1].write_text("no photo")
    return paths


def test_each_photo_that_can_be_read_is_looked_at_once(paths: list[Path]) -> None:
    seen: list[tuple[int, Square]] = []
    pixels, problems = decode_pixels(paths, 16, look=lambda i, square: seen.append((i, square)))
    assert list(problems) == [1]
    assert not pixels[1].any()
    assert sorted((i, s.width, s.height) for i, s in seen) == [
        (0, 50, 60),
        (2, 52, 60),
        (3, 53, 60),
    ]
    for i, square in seen:
        np.testing.assert_array_equal(square.pixels, load_square(paths[i], 16))
        np.testing.assert_array_equal(square.pixels.transpose(2, 0, 1), pixels[i])


def test_looking_through_finds_the_same_problems_and_counts(paths: list[Path]) -> None:
    counts: list[int] = []
    problems = look_through(paths, 16, lambda i, square: None, on_done=counts.append)
    assert problems == decode_pixels(paths, 16)[1]
    assert counts == [1, 2, 3, 4]


class Slow:
    """An image that takes a while and counts its readers."""

    read_times = 0

    def read(self) -> npt.NDArray[np.uint8]:
        Slow.read_times += 1
        time.sleep(0.002)
        return np.zeros((8, 8, 3), dtype=np.uint8)


def test_an_interrupt_does_not_wait_for_the_rest() -> None:
    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_pixels([Slow()] * 1000, 16, on_done=interrupt, workers=2)
    assert Slow.read_times < 500


def test_a_fault_of_the_one_who_looks_is_not_taken_for_a_photo_that_cannot_be_read(
    paths: list[Path],
) -> None:
    def fault(position: int, square: Square) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look_through(paths, 16, fault)


def test_there_is_a_worker_for_each_core() -> None:
    assert worker_count() >= 3
