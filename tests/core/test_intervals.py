"""Wilson's interval, against its published values and where simpler ones fail."""

from __future__ import annotations

import pytest

from fewshot_lite.core.intervals import wilson_interval


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        # Newcombe 1998, table I, method 3 (score without continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_values(correct: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=1e-4)


def test_nothing_seen_nothing_known() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("total", [1, 3, 50, 10_000])
def test_within_zero_and_one_around_the_share_and_symmetric(total: int) -> None:
    for correct in {0, 1, total // 2, total - 1, total}:
        low, high = wilson_interval(correct, total)
        assert 0 <= low <= correct / total <= high <= 1
        mirrored = wilson_interval(total - correct, total)
        assert mirrored == pytest.approx((1 - high, 1 - low))


def test_more_photos_make_it_narrower() -> None:
    widths = [high - low for low, high in (wilson_interval(n * 8 // 10, n) for n in (10, 50, 500))]
    assert widths == sorted(widths, reverse=True)
