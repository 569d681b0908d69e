"""Decoded images: in the order of their paths, with the files named that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.data.store import ImageStore, decode
from fewshot_lite.images.photo import load_square

IN_MEMORY, FROM_DISK = 2**30, 0


@pytest.fixture
def photos(picture: Image.Image, tmp_path: Path) -> list[Path]:
    """Six photos that differ; those at 2 and 4 cannot be read."""
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        picture.rotate(50 * number).save(path)
    paths[2].write_text("no photo")
    paths[4].unlink()
    return paths


def test_decoding_keeps_the_order_whatever_the_number_of_workers(photos: list[Path]) -> None:
    for workers in (1, 4):
        images, _ = decode(photos, 16, workers=workers)
        assert (images.dtype, images.shape) == (torch.uint8, (6, 3, 16, 16))
        for number in (0, 1, 3, 5):
            expected = torch.tensor(load_square(photos[number], 16)).permute(2, 0, 1)
            torch.testing.assert_close(images[number], expected, rtol=0, atol=0)


def test_files_that_cannot_be_read_are_black_and_told_by_position(photos: list[Path]) -> None:
    images, problems = decode(photos, 16)
    assert list(problems) == [2, 4]
    assert problems[2].startswith("not an image")
    assert problems[4] == "no such file"
    assert not images[[2, 4]].any()


def test_progress_counts_to_the_number_of_photos(photos: list[Path]) -> None:
    counts: list[int] = []
    decode(photos, 16, on_done=counts.append)
    assert counts == [1, 2, 3, 4, 5, 6]


def test_nothing_to_decode_is_no_images() -> None:
    images, problems = decode([], 16)
    assert images.shape == (0, 3, 16, 16)
    assert problems == {}


@pytest.mark.parametrize("indices", [[0], [5, 0, 3], [1, 1], [], (3, 1)])
def test_images_from_memory_and_from_disk_are_equal(photos: list[Path], indices: list[int]) -> None:
    in_memory = ImageStore(photos, 16, memory_limit=IN_MEMORY)
    from_disk = ImageStore(photos, 16, memory_limit=FROM_DISK)
    assert len(in_memory) == len(from_disk) == 6
    expected = decode(photos, 16)[0][list(indices)]
    for store in (in_memory, from_disk):
        images = store[indices]
        assert (images.dtype, images.shape) == (torch.uint8, (len(indices), 3, 16, 16))
        assert torch.equal(images, expected)


def test_images_are_kept_if_they_fit_exactly(photos: list[Path]) -> None:
    fits = ImageStore(photos, 16, memory_limit=6 * 3 * 16 * 16)
    too_many = ImageStore(photos, 16, memory_limit=6 * 3 * 16 * 16 - 1)
    assert list(fits.problems) == [2, 4]
    assert too_many.problems == {}  # nothing was decoded yet
    photos[0].unlink()
    fits[[0]]
    with pytest.raises(FewshotError, match="no such file"):
        too_many[[0]]


@pytest.mark.parametrize("memory_limit", [IN_MEMORY, FROM_DISK])
def test_the_use_of_a_file_that_cannot_be_read_names_it(
    photos: list[Path], memory_limit: int
) -> None:
    store = ImageStore(photos, 16, memory_limit=memory_limit)
    with pytest.raises(FewshotError) as caught:
        store[[0, 4, 1]]
    assert str(caught.value) == f"{photos[4]}: no such file."


def test_what_is_taken_from_memory_may_be_changed(photos: list[Path]) -> None:
    store = ImageStore(photos, 16)
    store[[0]].zero_()
    assert store[[0]].any()
