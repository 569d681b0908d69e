"""Tasks shared out over processes: each once, the same scores, one log."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.ranks import Place, Ranks
from fewshot_lite.evaluation import engine
from fewshot_lite.evaluation.caches import ImageCache
from fewshot_lite.evaluation.log import TaskLog
from fewshot_lite.evaluation.protocols.base import EvaluationTask
from fewshot_lite.evaluation.scores import TaskRecord, TaskScore
from photos import classes, draw_classes, tiny_model


class Together:
    """Threads in place of processes."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count, timeout=20)
        self.values: list[Any] = [None] * count
        self.ranks = [_Rank(self, number, count) for number in range(count)]


class _Rank(Ranks):
    def __init__(self, job: Together, number: int, count: int) -> None:
        super().__init__(Place(number, count, number, count))
        self.job = job

    def everyone(self, value: Any) -> list[Any]:
        self.job.values[self.rank] = value
        self.job.barrier.wait()
        values = list(self.job.values)
        self.job.barrier.wait()
        return values


class Protocol:
    """Nine tasks of two groups; what they are of does not matter."""

    name, notes, groups = "tasks", (), ("a", "b")

    def __len__(self) -> int:
        return 9

    def task(self, number: int) -> EvaluationTask:
        return EvaluationTask("ab"[number % 2], ("x", "y"), (), (), (), ())


class Runner:
    """In place of `_Runner`: a task's score is its place in its group."""

    def __init__(self, *args: Any) -> None:
        self.seen = {"a": 0, "b": 0}

    def skip(self, group: str) -> None:
        self.seen[group] += 1

    def run(self, number: int, task: EvaluationTask) -> TaskRecord:
        place = self.seen[task.group]
        self.skip(task.group)
        score = TaskScore((float(place),), ((1, 0.5, 1),))
        return TaskRecord(number, task.group, 2, 2, 2, {"m": score})


def share_out(path: Path, count: int, stops: Sequence[int] = ()) -> list[bool]:
    """Run on that many ranks; the first is asked to stop once so many tasks are done."""
    job, finished = Together(count), [False] * count

    def work(rank: Ranks) -> None:
        with TaskLog(path if rank.first else None, {}) as log:
            finished[rank.rank] = engine.run(
                [],
                Protocol(),  # type: ignore[arg-type]
                log,
                ImageCache(),
                stop=lambda: rank.first and len(log.records) in stops,
                ranks=rank,
            )

    threads = [threading.Thread(target=work, args=(rank,)) for rank in job.ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return finished


@pytest.mark.parametrize("count", [1, 2, 3, 4, 20])
def test_each_task_is_done_once_and_the_log_is_that_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(engine, "_Runner", Runner)
    assert share_out(tmp_path / "one.jsonl", 1) == [True]
    assert share_out(tmp_path / "many.jsonl", count) == [True] * count
    assert (tmp_path / "many.jsonl").read_text() == (tmp_path / "one.jsonl").read_text()


@pytest.mark.parametrize("count", [2, 3])
def test_all_stop_where_the_first_does_and_any_number_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(engine, "_Runner", Runner)
    path, whole = tmp_path / "log.jsonl", tmp_path / "whole.jsonl"
    share_out(whole, 1)
    assert share_out(path, count, stops=[count]) == [False] * count
    assert len(path.read_text().splitlines()) == 1 + count  # no round is begun after it
    assert share_out(path, 2) == [True, True]
    assert path.read_text() == whole.read_text()


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["a", "b"], "models ['b'], rank 0 has ['a']"),
        (["a" * 99, "b"], "other models than rank 0"),
        (["a", "b" * 99], "other models than rank 0"),
    ],
)
def test_ranks_that_differ_are_refused(models: list[str], message: str) -> None:
    job, errors = Together(2), {}

    def work(rank: Ranks) -> None:
        try:
            facts = {"tasks": 9, "loss": math.nan, "models": [models[rank.rank]]}
            rank.check_same(facts, "Start them alike.")
        except UsageError as error:
            errors[rank.rank] = str(error)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in job.ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors[0] == errors[1] == f"Rank 1 of 2 has {message}. Start them alike."


@pytest.mark.slow
def test_torchrun_gives_what_one_process_gives(tmp_path: Path) -> None:
    model, data = tmp_path / "tiny.safetensors", tmp_path / "data"
    tiny_model().save(model)
    draw_classes(data, classes(4, photos=5))
    words = ["evaluate", model, "cosine", data, "--baseline-backbone", model, "--tasks", 5]
    words += ["--ways", 3, "--shots", 2, "--queries", 2, "--precision", "float32", "--json"]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    found = {}
    for name, start in (("one", []), ("two", launcher)):
        log = tmp_path / f"{name}.jsonl"
        done = subprocess.run(
            [sys.executable, *start, "-m", "fewshot_lite", *map(str, words), "-o", str(log)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        sections = json.loads(done.stdout)["sections"]  # one rank printed
        found[name] = [[m["accuracy"] for m in section["models"]] for section in sections]
        assert len(log.read_text().splitlines()) == 6
    assert found["one"] == found["two"]
