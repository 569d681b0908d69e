"""Intervals of means and shares, against published values and where simpler ones fail."""

from __future__ import annotations

import math
from random import Random

import pytest

from fewshot_lite.core.intervals import half_width, mean_of_means, t_quantile, wilson_interval


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    # Fisher and Yates 1963, table III, P = 0.05.
    [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (14, 2.145), (24, 2.064), (60, 2.000)],
)
def test_quantiles_of_students_t(freedom: int, quantile: float) -> None:
    assert t_quantile(freedom) == pytest.approx(quantile, abs=5e-4)


def test_a_mean_of_few_values_has_students_interval_and_of_many_the_normal_one() -> None:
    few, many = [0.2, 0.4, 0.9], [0.4, 0.6] * 50
    deviation = math.sqrt((0.3**2 + 0.1**2 + 0.4**2) / 2)  # of the sample, over n - 1
    assert half_width(few) == pytest.approx(4.302653 * deviation / math.sqrt(3))
    assert half_width(few, normal=True) == pytest.approx(1.96 * deviation / math.sqrt(3))
    assert half_width(many) == pytest.approx(1.96 * math.sqrt(1 / 99) / 10)


@pytest.mark.parametrize("values", [[0.5], [1.0, 1.0], [0.7] * 200])
def test_values_without_spread_have_no_interval(values: list[float]) -> None:
    assert math.isnan(half_width(values))


@pytest.mark.parametrize("count", [3, 6, 15, 25])
def test_intervals_of_few_tasks_cover_what_they_say(count: int) -> None:
    """1.96 covers 81, 89, 93 and 94 % of these."""
    random, covered = Random(count), 0
    for _ in range(2000):
        values = [random.gauss(0.6, 0.1) for _ in range(count)]
        covered += abs(sum(values) / count - 0.6) <= half_width(values)
    assert 0.935 <= covered / 2000 <= 0.965  # three standard errors


def test_the_interval_of_a_mean_over_data_sets_is_that_of_independent_means() -> None:
    one, other = [0.2, 0.4, 0.9], [0.5, 0.6]
    mean, half = mean_of_means([one, other])
    assert mean == pytest.approx((0.5 + 0.55) / 2)
    assert half == pytest.approx(math.hypot(half_width(one), half_width(other)) / 2)
    assert math.isnan(mean_of_means([one, [0.5]])[1])
    assert math.isnan(mean_of_means([])[0])


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
