"""Meta-training at scale: whoever prepares the tasks and wherever images lie, the same weights."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.lite.step import LiteStep, lite_step
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.training.meta_train import meta_train
from photos import QUICK, classes, contents, draw_classes

pytestmark = pytest.mark.slow

STEP = "fewshot_lite.training.meta_step.lite_step"


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return draw_classes(tmp_path / "shapes", classes(5, photos=8))


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot_lite.training.tasks._MEMORY", 0)


def tensors(path: Path) -> dict[str, bytes]:
    file = checkpoint.load(path, "meta")
    return {name: value.numpy().tobytes() for name, value in file.tensors.items()}


def log_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.with_suffix(".jsonl").read_text().splitlines()]


def disturbed(after: int, disturb: Callable[[], None]) -> Callable[..., LiteStep]:
    calls = 0

    def step(*args: Any, **options: Any) -> LiteStep:
        nonlocal calls
        calls += 1
        if calls == after:
            disturb()
        return lite_step(*args, **options)

    return step


@pytest.mark.skipif(os.name != "posix", reason="needs fork to be fast")
def test_workers_and_a_cache_do_not_change_what_is_learned(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, home = replace(QUICK, tasks=4, shifts=0.5), tmp_path / "runs"
    home.mkdir()
    meta_train(shapes, home / "plain.safetensors", config)
    meta_train(shapes, home / "cached.safetensors", config, cache=tmp_path / "cache", workers=1)
    monkeypatch.setattr("fewshot_lite.training.tasks._MEMORY", 0)
    meta_train(shapes, home / "read.safetensors", config, workers=2)
    expected = tensors(home / "plain.safetensors")
    for name in ("cached", "read"):
        assert tensors(home / f"{name}.safetensors") == expected
    steps = [line for line in log_of(home / "read.safetensors") if line["event"] == "step"]
    assert all(0 < line["waiting"] <= 1 for line in steps)
    assert all(0 < line["gradient_norm"] < 100 for line in steps)
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".json", ".uint8"}


@pytest.mark.usefixtures("on_disk")
def test_photos_lost_during_a_run_are_replaced_and_named_once(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose() -> None:
        for number in range(5):
            (shapes / f"thing {number}" / "05.png").unlink()
            (shapes / f"thing {number}" / "06.png").write_bytes(b"torn")

    monkeypatch.setattr(STEP, disturbed(1, lose))
    output = tmp_path / "m.safetensors"
    result = meta_train(shapes, output, replace(QUICK, tasks=12))
    assert result.finished
    named = [(x["path"], x["reason"]) for x in log_of(output) if x["event"] == "replaced"]
    assert len({path for path, _ in named}) == len(named) > 1
    assert {Path(path).name for path, _ in named} == {"05.png", "06.png"}
    assert result.replaced == tuple(f"{path}: {reason}" for path, reason in named)


@pytest.mark.usefixtures("on_disk")
def test_a_data_set_that_vanishes_ends_the_run_in_one_line_with_its_checkpoint_whole(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = tmp_path / "away"

    def lose() -> None:
        shapes.rename(away)  # at once: a task that is being read ahead could replace single photos

    output = tmp_path / "m.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(STEP, disturbed(5, lose))
        with pytest.raises(FewshotError, match=r"shapes: too few photos of class .*--resume"):
            meta_train(shapes, output, replace(QUICK, tasks=10))
    # The next task may have been read ahead.
    assert MetaModel.load(output).record["tasks"] in ([4, 10], [6, 10])
    away.rename(shapes)
    assert meta_train(shapes, output, replace(QUICK, tasks=10), resume=True).finished
    other = tmp_path / "undisturbed.safetensors"
    meta_train(shapes, other, replace(QUICK, tasks=10))
    assert tensors(output) == tensors(other)


@pytest.mark.usefixtures("on_disk")
def test_validation_goes_on_without_what_was_lost(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_lite.training.validation._VALIDATION_TASKS", 4)
    good = draw_classes(tmp_path / "good", classes(2, photos=11))

    def lose() -> None:
        (good / "thing 0" / "02.png").unlink()
        (good / "thing 1" / "03.png").unlink()

    monkeypatch.setattr(STEP, disturbed(1, lose))
    output = tmp_path / "m.safetensors"
    config = replace(QUICK, tasks=2, validate_every=2)
    result = meta_train(shapes, output, config, validate=good)
    assert 0 <= result.validation["good"] <= 1
    assert {Path(line.partition(": ")[0]).name for line in result.replaced} == {"02.png", "03.png"}


def test_the_cache_says_why_it_reads_anew(shapes: Path, tmp_path: Path) -> None:
    notices: list[str] = []
    for number in range(3):
        meta_train(
            shapes,
            tmp_path / f"{number}.safetensors",
            replace(QUICK, tasks=1),
            cache=tmp_path / "cache",
            notice=notices.append,
        )
        if number == 1:
            assert not notices
            (shapes / "thing 0" / "00.png").touch()
    assert len(notices) == 1
    assert "photos changed" in notices[0]


def test_curves_are_drawn_at_the_end_and_again_when_resumed(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    output, plot = tmp_path / "m.safetensors", tmp_path / "curves.png"
    with monkeypatch.context() as patch:
        patch.setattr(STEP, disturbed(3, lambda: (_ for _ in ()).throw(MemoryError)))
        with pytest.raises(MemoryError):
            meta_train(shapes, output, replace(QUICK, tasks=4), plot=plot)
    assert not plot.exists()
    plot.write_bytes(b"of before")
    meta_train(shapes, output, replace(QUICK, tasks=4), plot=plot, resume=True)
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "--workers -1: must be at least 0 and at most 1024"),
        ({"workers": 2000}, "--workers 2000: must be at least 0 and at most 1024"),
        ({"cache": "file"}, r"--cache .*file is a file, not a folder"),
        ({"cache": "none/cache"}, r"--cache .*: there is no folder"),
        ({"tensorboard": "file"}, r"--tensorboard .*file: a file"),
        ({"plot": "curves.jpg"}, r"--plot .*curves\.jpg: must end in"),
        ({"plot": "taken.png"}, r"--plot .*taken\.png: exists already"),
        ({"plot": "none/curves.png"}, r"--plot .*: there is no folder"),
    ],
)
def test_what_cannot_be_is_refused_before_photos_are_read(
    shapes: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "file").touch()
    (home / "taken.png").touch()
    before = contents(home)
    given = {k: home / v if isinstance(v, str) else v for k, v in options.items()}
    seen: list[object] = []
    with pytest.raises(UsageError, match=message):
        meta_train(shapes, home / "m.safetensors", QUICK, report=seen.append, **given)
    assert not seen
    assert contents(home) == before


def test_tf32_is_refused_on_a_cpu(shapes: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"--tf32: for CUDA devices alone"):
        meta_train(shapes, tmp_path / "m.safetensors", replace(QUICK, tf32=True), device="cpu")
    assert contents(tmp_path) == before
