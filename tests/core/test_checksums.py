"""The checksum of sums: what changes it, and that it takes all bytes."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from fewshot_lite.core.checksums import summed_crc32

ROW = 8 * 4095
SIZE = 32 * ROW + 3 * ROW + 11  # a whole block, part of one, and what fills no row
DATA = np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8)
WHOLE = summed_crc32(DATA, 5)


def test_it_is_the_checksum_of_sums() -> None:
    value = 5
    for first, end in ((0, 32), (32, 35)):
        rows = DATA[first * ROW : end * ROW].view(np.uint64).reshape(-1, ROW // 8)
        total = np.array([sum(map(int, column)) % 2**64 for column in rows.T], np.uint64)
        value = zlib.crc32(total.tobytes(), value)
    assert zlib.crc32(DATA[35 * ROW :].tobytes(), value) == WHOLE
    assert summed_crc32(DATA[:100]) == zlib.crc32(DATA[:100].tobytes())
    assert summed_crc32(DATA[:0], 7) == 7


@pytest.mark.parametrize("place", [0, ROW - 1, ROW, 32 * ROW, 35 * ROW - 1, 35 * ROW, SIZE - 1])
def test_every_bit_counts(place: int) -> None:
    for bit in range(8):
        DATA[place] ^= 1 << bit
        assert summed_crc32(DATA, 5) != WHOLE
        DATA[place] ^= 1 << bit


@pytest.mark.parametrize("size", [512, 4096, ROW])
def test_parts_that_were_lost_or_exchanged_are_noticed(size: int) -> None:
    for first, second in ((0, 1), (3, 8), (1, SIZE // size - 1)):
        one = slice(first * size, (first + 1) * size)
        other = slice(second * size, (second + 1) * size)
        for source in (DATA[other], np.zeros(size, np.uint8)):
            damaged = DATA.copy()
            damaged[one] = source
            assert summed_crc32(damaged, 5) != WHOLE
        damaged[one], damaged[other] = DATA[other], DATA[one]
        same = size == ROW and second < 32  # rows that are added up: their order is not seen
        assert (summed_crc32(damaged, 5) == WHOLE) is same
