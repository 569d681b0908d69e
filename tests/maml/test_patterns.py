"""Patterns: how they are written, and what is said of those that do not fit."""

from __future__ import annotations

import pytest

from fewshot_lite.core.errors import UsageError
from fewshot_lite.maml.patterns import Pattern

LAYERS = ("block1", "block2", "head")


def test_one_row_serves_all_steps() -> None:
    pattern = Pattern.parse("011", LAYERS, 3)
    assert pattern.rows == ((False, True, True),) * 3
    assert (pattern.constant, pattern.updated, pattern.lowest) == (True, (False, True, True), 1)
    assert str(pattern) == "011"


def test_rows_of_their_own_for_each_step() -> None:
    pattern = Pattern.parse("001,100", LAYERS, 2)
    assert (pattern.constant, pattern.updated, pattern.lowest) == (False, (True, False, True), 0)
    assert str(pattern) == "001,100"
    assert Pattern.parse(str(pattern), LAYERS, 2) == pattern


def test_equal_rows_are_one() -> None:
    assert str(Pattern.parse("010,010", LAYERS, 2)) == "010"


def test_all_and_nothing() -> None:
    everything = Pattern.everything(3, 2)
    assert everything == Pattern.parse("111", LAYERS, 2)
    nothing = Pattern.parse("000", LAYERS, 2)
    assert (nothing.updated, nothing.lowest) == ((False,) * 3, 2)


@pytest.mark.parametrize("text", ["", "01", "0111", "012", "０11", "01 ", "-11", "011,01", "011,"])
def test_other_digits_are_refused_by_the_layers(text: str) -> None:
    with pytest.raises(UsageError, match=r"must have 3 digits 0 or 1, for block1, block2, head"):
        Pattern.parse(text, LAYERS, 2)


def test_another_number_of_rows_is_refused() -> None:
    with pytest.raises(UsageError, match=r"has 2 rows, but there are 3 inner steps. Give one row"):
        Pattern.parse("011,001", LAYERS, 3)
