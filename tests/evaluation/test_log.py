"""The log: goes on after anything, and is never mistaken for that of another comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_lite.core.errors import UsageError
from fewshot_lite.evaluation.log import TaskLog
from fewshot_lite.evaluation.scores import TaskRecord, TaskScore

CONFIG = {"models": [{"name": "a"}], "tasks": 9, "fine_tuning": {"lr": 1e-3}}


def record(number: int) -> TaskRecord:
    return TaskRecord(number, "set", 5, 25, 50, {"a": TaskScore((0.1 * number,), ((1, 0.5, 1),))})


def write(path: Path, *numbers: int) -> None:
    with TaskLog(path, CONFIG) as log:
        for number in numbers:
            log.add(record(number))


def test_tasks_are_on_disk_as_they_are_done_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with TaskLog(path, CONFIG) as log:
        log.add(record(0))
        assert len(path.read_text().splitlines()) == 2
    write(path, 1)
    again = TaskLog(path, CONFIG)
    assert again.records == {0: record(0), 1: record(1)}


def test_half_a_line_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write(path, 0, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    write(path, 1)
    assert path.read_bytes() == whole
    path.write_bytes(whole[:5])  # killed while the first line was written
    write(path, 0, 1)
    assert path.read_bytes() == whole


def test_another_comparison_is_refused_in_one_line_and_overwritten_by_force(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.jsonl"
    write(path, 0)
    before = path.read_bytes()
    other = {**CONFIG, "tasks": 10}
    with pytest.raises(UsageError, match=r"log\.jsonl: .* other tasks \(9, not 10\).*--force"):
        TaskLog(path, other)
    assert path.read_bytes() == before
    with TaskLog(path, other, force=True) as log:
        assert not log.records
    with pytest.raises(UsageError):
        TaskLog(path, CONFIG)


def test_force_goes_on_with_the_same_comparison(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write(path, 0)
    assert TaskLog(path, CONFIG, force=True).records.keys() == {0}


@pytest.mark.parametrize(
    "content",
    [
        "hello\n",
        '{"a": 1}\n',
        "[]\n",
        '{"comparison": {}}\n{}\n',
        '{"comparison": 5}\n',
        f'{{"comparison": {"[" * 2000}{"]" * 2000}}}\n',
        f'{{"comparison": {"[" * 600}{"]" * 600}}}\n',
    ],
)
def test_other_files_are_not_touched(tmp_path: Path, content: str) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text(content)
    with pytest.raises(UsageError, match="not a log of `fewshot-lite evaluate`"):
        TaskLog(path, CONFIG)
    assert path.read_text() == content


def test_without_a_path_nothing_is_written() -> None:
    with TaskLog(None, CONFIG) as log:
        log.add(record(4))
    assert log.records == {4: record(4)}
