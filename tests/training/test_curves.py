"""Curves out of logs, also of runs that were killed and resumed; figures and TensorBoard."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.training.curves import plot_curves, read_curves
from fewshot_lite.training.log import Log, check_tensorboard

pytest.importorskip("matplotlib")


def step(task: int, loss: float, **values: float) -> dict[str, Any]:
    return {"event": "step", "task": task, "loss": loss, "accuracy": 0.5, **values}


LINES: list[dict[str, Any]] = [
    {"event": "start", "task": 0},
    {"event": "unreadable", "path": "a.jpg"},
    step(2, 3.0, gradient_norm=2.0, waiting=0.25),
    step(4, 2.0, gradient_norm=1.0, waiting=0.0),
    {"event": "validation", "task": 4, "accuracy": {"birds": 0.5, "mean": 0.5}},
    step(6, 9.0, gradient_norm=9.0),
    {"event": "start", "task": 4},  # killed, and resumed from the last checkpoint
    step(6, 1.0, gradient_norm=0.5),
    {"event": "validation", "task": 6, "accuracy": {"birds": 0.75, "mean": 0.75}},
    {"event": "skipped", "task": 8, "loss": None},
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write(tmp_path / "model.jsonl", LINES)


def write(path: Path, lines: list[dict[str, Any]], rest: str = "") -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + rest)
    return path


def test_each_task_has_the_value_of_the_run_that_went_on(log: Path) -> None:
    curves = read_curves(log)
    assert curves["train", "loss"] == dict(zip([2, 4, 6], [3.0, 2.0, 1.0], strict=True))
    assert curves["train", "gradient_norm"] == dict(zip([2, 4, 6], [2.0, 1.0, 0.5], strict=True))
    assert curves["train", "waiting"] == dict(zip([2, 4], [0.25, 0.0], strict=True))
    assert curves["validation", "birds"] == curves["validation", "mean"] == {4: 0.5, 6: 0.75}


def test_what_a_resumed_run_has_not_reached_again_is_not_shown(tmp_path: Path) -> None:
    lines = [step(2, 3.0), step(4, 2.0), step(6, 1.0), {"event": "start", "task": 2}]
    assert read_curves(write(tmp_path / "l", lines))["train", "loss"] == {2: 3.0}


def test_a_line_cut_off_and_values_that_are_none_do_not_matter(tmp_path: Path) -> None:
    lines = [step(2, 3.0), {"event": "step", "task": 4, "loss": None}]
    path = write(tmp_path / "l", lines, rest='{"event": "step", "ta')
    assert read_curves(path)["train", "loss"] == {2: 3.0}


def test_numbers_beyond_all_measure_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "l", [step(2, 3.0), step(4, 10**400)])
    assert read_curves(path)["train", "loss"] == {2: 3.0}


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(".png", marks=pytest.mark.slow),
        ".svg",
        pytest.param(".PDF", marks=pytest.mark.slow),
    ],
)
def test_figures_are_drawn_and_the_same_log_gives_the_same_one(log: Path, ending: str) -> None:
    one, other = log.with_name(f"one{ending}"), log.with_name(f"other{ending}")
    plot_curves(log, one)
    plot_curves(log, other)
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".PDF": b"%PDF"}[ending]
    assert one.read_bytes().startswith(start)
    if ending != ".svg":  # whose ids are random
        assert one.read_bytes() == other.read_bytes()
    assert {path.name for path in log.parent.iterdir()} == {log.name, one.name, other.name}


def test_a_log_without_validation_and_norms_is_drawn(tmp_path: Path) -> None:
    plot_curves(write(tmp_path / "l", [step(1, 1.0)]), tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello\n", "no step of a meta-training run"),
        (b"", "no step of a meta-training run"),
        (b'[1]\n{"event": "step"}\n', "no step"),
        (b"\xff\xfe\x00", "not a log"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "l.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"l\.jsonl: .*{message}"):
        plot_curves(path, tmp_path / "f.png")
    assert not (tmp_path / "f.png").exists()


def test_files_that_are_not_there_and_endings(log: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.jsonl: no such file"):
        read_curves(log.with_name("none.jsonl"))
    with pytest.raises(UsageError, match=r"--plot f\.jpg: must end in \.png"):
        plot_curves(log, Path("f.jpg"))


def test_without_matplotlib_the_extra_is_named(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(FewshotError, match=r"--plot: .*fewshot-lite\[plot\]"):
        plot_curves(log, log.with_name("f.png"))


def test_without_tensorboard_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(FewshotError, match=r"--tensorboard: .*fewshot-lite\[tensorboard\]"):
        check_tensorboard(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--tensorboard .*file: a file"):
        check_tensorboard(tmp_path / "file")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_shows_what_the_log_has(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begun, lines in ((0, LINES[:6]), (4, LINES[7:])):  # killed and resumed
        board = tmp_path / "board"
        log = Log(tmp_path / "log.jsonl", begun=begun, append=begun > 0, board=board)
        for line in lines:
            log.write(**line)
        log.close()
    shown = EventAccumulator(str(tmp_path / "board")).Reload()
    found = {event.step: event.value for event in shown.Scalars("train/loss")}
    assert found == {2: 3.0, 4: 2.0, 6: 1.0}
    assert [event.value for event in shown.Scalars("validation/birds")] == [0.5, 0.75]
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 9
