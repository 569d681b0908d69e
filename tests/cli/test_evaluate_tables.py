"""Tables of a comparison in a terminal of 80 columns: broken between words, long lists cut."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fewshot_lite.cli.render import terminal
from fewshot_lite.cli.render.evaluate import percent, print_comparison
from fewshot_lite.evaluation.cost import Cost
from fewshot_lite.evaluation.results import Figure, compare
from fewshot_lite.evaluation.scores import TaskRecord, TaskScore


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    found = io.StringIO()
    console = Console(file=found, width=80, soft_wrap=True, highlight=False, emoji=False)
    monkeypatch.setattr(terminal, "out", console)
    return found


def show(groups: list[str], names: list[str]) -> None:
    def score(number: int) -> TaskScore:
        cost = Cost(12.3, 1.5, 1.2, 1.2e9, 3e8, 10**9)
        return TaskScore((0.1 * (number % 10),), ((4, 2.0, 3),), cost)

    records = [
        TaskRecord(2 * place + k, group, 5, 25, 50, {name: score(place + 5 * k) for name in names})
        for place, group in enumerate(groups)
        for k in range(2)
    ]
    models = [
        {"name": n, "parameters": 4e6, "image_size": 224, "backbone": "efficientnet_b0"}
        for n in names
    ]
    print_comparison(compare(records, models, protocol="test", sections={"all": groups}))


@pytest.mark.parametrize(
    ("groups", "models"),
    [
        (["clothing, 5-way 1-shot"], ["default", "cosine:efficientnet_b0"]),
        ([f"set {n}, 5-way 1-shot" for n in range(2)], [f"models/long-{n}.pt" for n in range(5)]),
        ([f"data set {n}, 5-way 5-shot" for n in range(9)], ["default", "cosine", "ridge"]),
    ],
)
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_broken(
    shown: io.StringIO, groups: list[str], models: list[str]
) -> None:
    show(groups, models)
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in shown.getvalue(), "something was cut"
    for name in models:
        rows = [line for line in lines if line.startswith(name)]
        if len(groups) < 9:  # else models are columns of the first tables
            assert any("±" in line and "5-way" not in line for line in rows)
        assert any("1.2 G" in line and "954 MiB" in line for line in rows)


def test_a_long_list_of_groups_is_cut_and_its_mean_is_shown(shown: io.StringIO) -> None:
    show([f"set {number}" for number in range(40)], ["default"])
    text = shown.getvalue()
    assert "set 29" in text
    assert "set 30" not in text
    assert text.count("… and 10 more; --csv and --json have all of them.") == 2
    assert any(line.startswith("all ") for line in text.splitlines())


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(0.5, 0.0123), "50.0 ± 1.2"),
        (Figure(0.5, 0.0003), "50.0 ± <0.1"),
        (Figure(1.0, float("nan")), "100.0"),
        (Figure(float("nan"), float("nan")), ""),
    ],
)
def test_an_interval_is_never_shown_as_nothing(figure: Figure, text: str) -> None:
    assert percent(figure) == text
