"""Decoding ahead: in order, bounded, and while the consumer is busy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewshot_lite.images import prefetch
from fewshot_lite.images.folders import Skipped
from fewshot_lite.images.prefetch import decoded_batches
from photos import SIZE, draw_classes


def test_batches_are_in_order_with_what_could_not_be_read(tmp_path: Path) -> None:
    good = sorted(draw_classes(tmp_path / "things", {"mug": 5}).rglob("*.png"))
    (tmp_path / "text.jpg").write_text("text")
    note = Skipped(tmp_path / "note.txt", "not a photo")
    items = [good[0], note, good[1], tmp_path / "text.jpg", *good[2:]]
    batches = list(decoded_batches(items, SIZE, batch=3))
    assert [path for batch in batches for path in batch.paths] == [
        item.path if isinstance(item, Skipped) else item for item in items
    ]
    assert batches[0].problems == {1: "not a photo"}
    assert batches[1].problems == {0: "not an image, or badly damaged"}
    assert [len(batch.pixels) for batch in batches] == [2, 2, 1]
    whole = next(decoded_batches(good, SIZE)).pixels
    assert whole.shape == (5, 3, SIZE, SIZE)
    assert np.array_equal(np.concatenate([batch.pixels for batch in batches]), whole)


def test_files_known_to_be_none_are_not_opened_and_nothing_gives_nothing(tmp_path: Path) -> None:
    (batch,) = decoded_batches([Skipped(tmp_path / "gone", "gone")] * 2, SIZE)
    assert batch.problems == {0: "gone", 1: "gone"}
    assert batch.pixels.shape == (0, 3, SIZE, SIZE)
    assert list(decoded_batches([], SIZE)) == []


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(paths: list[Path], size: int, **_: Any) -> tuple[Any, dict[int, str]]:
        return np.zeros((len(paths), 3, 1, 1), np.uint8), {}

    monkeypatch.setattr(prefetch, "decode_pixels", decode)


@pytest.mark.slow
@pytest.mark.usefixtures("no_decoding")
def test_a_hundred_thousand_paths_are_taken_a_few_batches_at_a_time() -> None:
    taken = 0

    def paths() -> Iterator[Path]:
        nonlocal taken
        while taken < 100_000:
            taken += 1
            yield Path("x")

    answered, most = 0, 0
    for batch in decoded_batches(paths(), 1, batch=64, ahead=2):
        most = max(most, taken - answered)
        answered += len(batch.paths)
    assert (taken, answered) == (100_000, 100_000)
    assert most == 3 * 64


@pytest.mark.usefixtures("no_decoding")
def test_it_ends_with_its_consumer() -> None:
    before = threading.active_count()
    batches = decoded_batches((Path("x") for _ in count()), 1)
    assert len(list(islice(batches, 3))) == 3
    batches.close()
    assert threading.active_count() == before


def test_the_next_batches_are_decoded_while_one_is_worked_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = [threading.Event() for _ in range(4)]

    def decode(paths: list[Path], size: int, **_: Any) -> tuple[Any, dict[int, str]]:
        decoded[int(paths[0].name)].set()
        return np.zeros((1, 3, 1, 1), np.uint8), {}

    monkeypatch.setattr(prefetch, "decode_pixels", decode)
    batches = decoded_batches((Path(str(i)) for i in range(4)), 1, batch=1, ahead=2)
    next(batches)
    assert decoded[1].wait(10)  # though nobody has asked for them
    assert decoded[2].wait(10)
    assert not decoded[3].is_set()
    batches.close()


def test_an_error_of_the_paths_is_raised_where_they_are_used() -> None:
    def paths() -> Iterator[Path]:
        yield Path("gone")
        raise OSError("taken away")

    with pytest.raises(OSError, match="taken away"):
        list(decoded_batches(paths(), SIZE, batch=1, ahead=1))
