"""Figures: means, intervals and paired differences by hand."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from fewshot_lite.evaluation.cost import Cost
from fewshot_lite.evaluation.results import Comparison, compare
from fewshot_lite.evaluation.scores import TaskRecord, TaskScore
from fewshot_lite.evaluation.tables import write_csv, write_plot

_MODELS = [
    {"name": name, "parameters": 7, "image_size": 32, "backbone": "tiny"} for name in ("a", "b")
]


def record(
    number: int, group: str, costs: tuple[Cost | None, Cost | None] = (None, None), **units: object
) -> TaskRecord:
    scores = {
        name: TaskScore(
            value if isinstance(value, tuple) else (value,),  # type: ignore[arg-type]
            ((4, 2.0, 3),),
            costs[0] if name == "a" else costs[1],
        )
        for name, value in units.items()
    }
    return TaskRecord(number, group, 5, 25, 50, scores)


def made(*records: TaskRecord) -> Comparison:
    groups = list(dict.fromkeys(r.group for r in records))
    return compare(records, _MODELS, protocol="test", sections={"all": groups})


#: 97.5 % quantiles of Student's t by the number of values.
_T = {2: 12.7062, 3: 4.302653, 4: 3.182446}


def half(*values: float) -> float:
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return _T[len(values)] * math.sqrt(variance / len(values))


def test_differences_are_paired_task_by_task() -> None:
    comparison = made(record(0, "x", a=0.5, b=0.4), record(1, "x", a=0.9, b=0.9))
    (section,) = comparison.sections
    assert section.accuracy["a"].mean == pytest.approx(0.7)
    assert section.accuracy["a"].interval == pytest.approx(half(0.5, 0.9), rel=1e-6)
    difference = section.difference("b", "a")
    assert difference is not None
    assert difference.mean == pytest.approx(-0.05)
    assert difference.interval == pytest.approx(half(-0.1, 0.0), rel=1e-6)
    assert section.difference("a", "a") is None
    assert section.calibration["a"] == pytest.approx(0.25)


def test_intervals_are_the_published_ones_where_a_protocol_has_them() -> None:
    records = [record(number, "x", a=value) for number, value in enumerate((0.2, 0.4, 0.9))]
    found = compare(records, _MODELS[:1], protocol="test", sections={}, normal=True)
    assert found.sections[0].accuracy["a"].interval == pytest.approx(
        half(0.2, 0.4, 0.9) / _T[3] * 1.96
    )


def test_equal_accuracies_have_no_interval() -> None:
    (section,) = made(*(record(number, "x", a=1.0, b=0.5) for number in range(5))).sections
    assert section.accuracy["a"].mean == 1
    assert math.isnan(section.accuracy["a"].interval)
    difference = section.difference("b", "a")
    assert difference is not None
    assert math.isnan(difference.interval)


def test_groups_count_alike_in_their_mean() -> None:
    comparison = made(
        *(record(i, "x", a=v, b=0.0) for i, v in enumerate((0.2, 0.4, 0.6))),
        *(record(3 + i, "y", a=v, b=0.0) for i, v in enumerate((0.8, 1.0))),
    )
    assert [section.name for section in comparison.sections] == ["x", "y", "all"]
    mean = comparison.sections[-1].accuracy["a"]
    assert mean.mean == pytest.approx((0.4 + 0.9) / 2)
    expected = math.hypot(half(0.2, 0.4, 0.6), half(0.8, 1.0)) / 2
    assert mean.interval == pytest.approx(expected, rel=1e-6)


def test_parts_of_tasks_count_alike_over_all_groups() -> None:
    comparison = made(
        record(0, "x", a=(0.2, 0.4, 0.6), b=(0.0, 0.0, 0.0)), record(1, "y", a=(1.0,), b=(0.5,))
    )
    assert comparison.sections[-1].accuracy["a"].mean == pytest.approx(2.2 / 4)
    assert comparison.sections[-1].accuracy["a"].interval == pytest.approx(half(0.2, 0.4, 0.6, 1.0))


def _cost(ms: float, macs: float | None, bare: float | None = None) -> Cost:
    return Cost(ms, ms / 10, bare, macs, macs, int(ms))


def test_times_are_of_tasks_that_were_not_counted() -> None:
    times = [_cost(90, 6.0), _cost(10, None, 1.0), _cost(30, None, 2.0), _cost(20, None, 3.0)]
    comparison = made(
        *(record(i, "x", costs=(cost, None), a=0.5, b=0.5) for i, cost in enumerate(times)),
        record(4, "y", costs=(_cost(40, 2.0), None), a=0.5, b=0.5),
    )
    first, second, _ = comparison.sections
    assert (first.costs["a"].adapt_ms, first.costs["a"].bare_ms) == (20, 2)
    assert second.costs["a"].adapt_ms == 40  # there is no other
    assert comparison.costs["a"].adapt_ms == 30
    assert comparison.costs["a"].adapt_macs == 4
    assert comparison.costs["a"].peak_memory == 90
    assert comparison.costs["b"].adapt_ms is None


@pytest.fixture
def comparison() -> Comparison:
    return made(
        record(0, "x", costs=(_cost(9, 6e9), None), a=0.5, b=0.4),
        record(1, "x", a=0.9, b=0.9),
        record(2, "y", a=0.25, b=0.5),
    )


def test_csv_has_a_row_for_each_model_and_section(comparison: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "figures.csv"
    write_csv(comparison, path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["section"], row["model"]) for row in rows] == [
        (s, m) for s in ("x", "y", "all") for m in ("a", "b")
    ]
    assert rows[0]["accuracy"] == "0.7"
    assert rows[0]["difference"] == ""
    assert rows[1]["difference"] == "-0.05"
    assert rows[2]["interval"] == ""  # of one task
    assert (rows[0]["adapt_macs"], rows[1]["adapt_macs"]) == ("6e+09", "")


def test_json_has_the_whole_matrix_of_differences(comparison: Comparison) -> None:
    section = comparison.to_json()["sections"][0]
    assert [(d["a"], d["b"]) for d in section["differences"]] == [("a", "b")]
    assert section["models"][0]["accuracy"]["mean"] == pytest.approx(0.7)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_plots_are_images_and_the_same_each_time(
    comparison: Comparison, tmp_path: Path, ending: str
) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"figures{ending}"
    write_plot(comparison, path)
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG" if ending == ".png" else b"<?xml")
    write_plot(comparison, path)
    if ending == ".png":
        assert path.read_bytes() == first


def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    """Neither as formulas nor, where the font lacks them, with a warning (an error in tests)."""
    pytest.importorskip("matplotlib")
    names = (r"a$\foo$", "名", "\x1b[1m")
    write_plot(
        made(*(record(i, name, a=0.5, b=0.5) for i, name in enumerate(names))),
        path := tmp_path / "f.svg",
    )
    drawn = path.read_text()
    assert r"a$\foo$" in drawn
    assert "\x1b" not in drawn


def test_sections_keep_to_the_groups_that_are_there() -> None:
    comparison = compare(
        [record(i, group, a=v, b=v) for i, (group, v) in enumerate((("x", 0.2), ("y", 0.6)))],
        _MODELS,
        protocol="test",
        sections={"natural": ["x", "y", "gone"], "structured": ["y"], "none": ["gone"]},
    )
    assert [section.name for section in comparison.sections] == ["x", "y", "natural"]
    assert comparison.sections[-1].accuracy["a"].mean == pytest.approx(0.4)
    assert math.isnan(comparison.sections[-1].accuracy["a"].interval)
