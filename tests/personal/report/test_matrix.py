"""What is taken for what, as a table or as pairs."""

from __future__ import annotations

from fewshot_lite.personal.quality import Quality
from fewshot_lite.personal.report.adapting import confused_pairs, matrix


def quality(names: tuple[str, ...], confusion: tuple[tuple[int, ...], ...]) -> Quality:
    return Quality(None, None, 0, 0, (), (), (), names, confusion)


def test_a_cell_is_the_darker_the_larger_its_share() -> None:
    rows = matrix(quality(("a", "b", "alone"), ((6, 2, 0), (0, 4, 0), (0, 0, 0))))
    assert [name for name, _ in rows] == ["a", "b", "alone"]
    cells = [cell for _, row in rows for cell in row if cell[0]]
    assert [cell[:2] for cell in cells] == [(6, "right"), (2, "wrong"), (4, "right")]
    assert 0 < cells[1][2] < cells[0][2] < cells[2][2] <= 0.6
    assert rows[2][1] == []  # one photo only


def test_pairs_are_the_worst_first() -> None:
    counts = [[0] * 40 for _ in range(40)]
    for k in range(40):
        counts[k][k], counts[k][(k + 1) % 40] = 100 - k, k
    names = tuple(f"n{k}" for k in range(40))
    pairs = confused_pairs(quality(names, tuple(map(tuple, counts))))
    assert pairs[:2] == [("n39", "n0", 39, 100), ("n38", "n39", 38, 100)]
    assert len(pairs) == 39
    assert confused_pairs(quality(("a", "b"), ((1, 0), (0, 1)))) == []
