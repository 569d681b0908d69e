"""Photos that never come are given up, and hold nothing up."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from fewshot_lite.data.timed_reading import read_in_time
from fewshot_lite.images.photo import PhotoError, Source, Square


@dataclass(frozen=True)
class Image:
    """One colour; `hangs` until it is let go."""

    level: int
    hangs: threading.Event | None = None
    fails: BaseException | None = None

    def read(self) -> npt.NDArray[np.uint8]:
        if self.hangs is not None:
            self.hangs.wait()
        if self.fails is not None:
            raise self.fails
        return np.full((4, 4, 3), self.level, dtype=np.uint8)

    def __str__(self) -> str:
        return f"image {self.level}"


def levels(
    images: list[Image], threads: int, patience: float = 60
) -> tuple[dict[int, int], dict[int, str], set[int]]:
    found: dict[int, int] = {}

    def keep(position: int, square: Square) -> None:
        assert threading.current_thread() is threading.main_thread()
        found[position] = int(square.pixels[0, 0, 0])

    sources: list[Source] = list(images)
    return (found, *read_in_time(sources, 2, keep, threads=threads, patience=patience))


@pytest.mark.parametrize("threads", [1, 3, 20])
def test_all_come_whatever_the_number_of_threads(threads: int) -> None:
    images = [Image(n) for n in range(8)]
    assert levels(images, threads) == ({n: n for n in range(8)}, {}, set())


def test_nothing_to_read_is_nothing_to_wait_for() -> None:
    assert levels([], 4) == ({}, {}, set())


def test_what_fails_is_told() -> None:
    found, problems, slow = levels([Image(0), Image(1, fails=PhotoError("torn"))], 2)
    assert (found, problems, slow) == ({0: 0}, {1: "torn"}, set())


def test_what_is_no_photos_fault_is_raised() -> None:
    with pytest.raises(SystemExit):
        levels([Image(0, fails=SystemExit())], 2)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_photos_that_hang_are_given_up_and_the_others_come(threads: int) -> None:
    hangs = threading.Event()
    images = [Image(n, hangs if n in (1, 2) else None) for n in range(6)]
    found, problems, slow = levels(images, threads, patience=0.15)
    assert found == {n: n for n in (0, 3, 4, 5)}
    assert problems == dict.fromkeys((1, 2), "not read within 0.15 s")
    assert slow == {1, 2}
    hangs.set()
    time.sleep(0.05)
    assert 1 not in found  # too late
