"""What is taken for what, as a table or as pairs."""

from __future__ import annotations

import re

from fewshot_lite.personal.report.matrix import MOST_PAIRS, confused_pairs, confusion_matrix


def test_a_cell_is_the_darker_the_larger_its_share() -> None:
    markup = confusion_matrix(("a<", "b", "alone"), ((6, 2, 0), (0, 4, 0), (0, 0, 0)))
    cells = re.findall(r"rgba\(var\(--(\w+)\), ([\d.]+)\)\">(\d+)<", markup)
    assert [(kind, count) for kind, _, count in cells] == [
        ("right", "6"),
        ("wrong", "2"),
        ("right", "4"),
    ]
    shades = [float(shade) for _, shade, _ in cells]
    assert 0 < shades[1] < shades[0] < shades[2] <= 0.6
    assert "a&lt;" in markup
    assert "one photo only" in markup


def test_pairs_are_the_worst_first_and_bounded() -> None:
    counts = [[0] * 40 for _ in range(40)]
    for k in range(40):
        counts[k][k], counts[k][(k + 1) % 40] = 100 - k, k
    names = [f"n{k}" for k in range(40)]
    markup = confused_pairs(names, counts)
    rows = re.findall(r"<bdi>(n\d+)</bdi></th><td><bdi>(n\d+)</bdi></td>", markup)
    assert rows[:2] == [("n39", "n0"), ("n38", "n39")]
    assert len(rows) == MOST_PAIRS
    assert "39 pairs" in markup
    assert f"the worst {MOST_PAIRS} are listed" in markup
    assert "None" in confused_pairs(("a", "b"), ((1, 0), (0, 1)))
