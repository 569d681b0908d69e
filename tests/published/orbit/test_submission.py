"""The JSON that the challenge's server takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.evaluation.protocols.base import EvaluationTask
from fewshot_lite.published.orbit.protocol import OrbitProtocol
from fewshot_lite.published.orbit.submission import collect, problems, write
from orbit_tree import TWO, draw_orbit

BAG, KEYS = "P177--bag--clutter--Zj-1", "P177--keys--clutter--Hv_2"
TASK = EvaluationTask(
    group="P177",
    class_names=("bag", "keys"),
    support=(),
    support_labels=(),
    query=(
        Path("x", BAG, f"{BAG}-00017.jpg"),
        Path("x", BAG, f"{BAG}-00042.jpg"),
        Path("x", KEYS, f"{KEYS}-00001.jpg"),
    ),
    query_labels=(0, 0, 1),
    query_parts=(BAG, BAG, KEYS),
)


def test_the_format_of_the_servers_example(tmp_path: Path) -> None:
    other = replace(TASK, group="P204")
    submission = collect([(TASK, [0, 1, 1]), (other, [1, 1, 0]), (TASK, [0, 0, 0])])
    write(submission, tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "P177": [
            {
                "task_object_list": ["bag", "keys"],
                "task_videos": {BAG: {"17": 0, "42": 1}, KEYS: {"1": 1}},
            },
            {
                "task_object_list": ["bag", "keys"],
                "task_videos": {BAG: {"17": 0, "42": 0}, KEYS: {"1": 0}},
            },
        ],
        "P204": [
            {
                "task_object_list": ["bag", "keys"],
                "task_videos": {BAG: {"17": 1, "42": 1}, KEYS: {"1": 0}},
            }
        ],
    }
    assert list(tmp_path.iterdir()) == [tmp_path / "results.json"]


def test_the_tasks_of_the_protocol(tmp_path: Path) -> None:
    protocol = OrbitProtocol(draw_orbit(tmp_path, {"test": {"P177": TWO}}))
    tasks = [protocol.task(number) for number in range(len(protocol))]
    submission = collect((task, task.query_labels) for task in tasks)
    assert problems(submission) == []
    write(submission, tmp_path / "results.json")
    written = json.loads((tmp_path / "results.json").read_text())["P177"]
    assert len(written) == 50
    assert {len(frames) for task in written for frames in task["task_videos"].values()} == {52}


def test_too_few_tasks_for_the_server_are_named() -> None:
    submission = collect([(TASK, [0, 1, 1])])
    assert problems(submission) == ["P177: 1 tasks; the challenge wants 50."]


@pytest.mark.parametrize("predictions", [[0, 1], [0, 1, 1, 0], [0, 1, 2], [0, -1, 1]])
def test_predictions_that_are_not_of_the_task(predictions: list[int]) -> None:
    with pytest.raises(ValueError, match=r"zip|no class"):
        collect([(TASK, predictions)])


def test_a_frame_without_a_number() -> None:
    query = (*TASK.query[:2], Path("x", KEYS, "first.jpg"))
    with pytest.raises(FewshotError, match=r"first\.jpg: the name"):
        collect([(replace(TASK, query=query), [0, 1, 1])])


def test_what_exists_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("mine")
    with pytest.raises(FewshotError, match="no predictions"):
        write({}, path, force=True)
    submission = collect([(TASK, [0, 1, 1])])
    with pytest.raises(UsageError, match="--force"):
        write(submission, path)
    assert path.read_text() == "mine"
    write(submission, path, force=True)
    assert "P177" in json.loads(path.read_text())


def test_no_folder_to_write_to(tmp_path: Path) -> None:
    submission = collect([(TASK, [0, 1, 1])])
    with pytest.raises(UsageError, match="there is no folder"):
        write(submission, tmp_path / "none" / "results.json")
