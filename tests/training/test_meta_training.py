"""Meta-training: it learns, it can be killed and resumed, it says what it cannot do."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.data.store import decode
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.lite.step import LiteStep, lite_step
from fewshot_lite.maml.registry import LEARNERS
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.training.meta_config import BY_GRADIENT, MetaTrainConfig
from fewshot_lite.training.meta_train import MetaTrainResult, meta_train
from photos import QUICK, SIZE, classes, contents, draw_classes

pytestmark = pytest.mark.slow

STEP = "fewshot_lite.training.meta_step.lite_step"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_classes(tmp_path_factory.mktemp("data") / "shapes", classes(5, photos=8))


@pytest.fixture(scope="module")
def undisturbed(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `QUICK` on `shapes` gives if it is left alone."""
    output = tmp_path_factory.mktemp("undisturbed") / "model.safetensors"
    assert meta_train(shapes, output, QUICK).finished
    return output


def log_of(output: Path) -> list[dict[str, Any]]:
    def refuse(token: str) -> None:
        raise ValueError(f"{token} is no JSON")

    lines = output.with_suffix(".jsonl").read_text("utf-8").splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def events(output: Path) -> list[str]:
    return [line["event"] for line in log_of(output)]


def stop_after(tasks: int) -> Callable[..., LiteStep]:
    """A `lite_step` whose process is interrupted (Ctrl-C) during its task number `tasks`."""
    return _disturbed(tasks, lambda: os.kill(os.getpid(), signal.SIGINT))


def die_after(tasks: int) -> Callable[..., LiteStep]:
    """A `lite_step` that ends the run without a chance to save."""

    def die() -> None:
        raise MemoryError

    return _disturbed(tasks, die)


def _disturbed(tasks: int, disturb: Callable[[], None]) -> Callable[..., LiteStep]:
    calls = 0

    def step(*args: Any, **options: Any) -> LiteStep:
        nonlocal calls
        calls += 1
        if calls == tasks:
            disturb()
        return lite_step(*args, **options)

    return step


def test_a_run_leaves_a_checkpoint_and_a_log_and_nothing_else(
    shapes: Path, undisturbed: Path
) -> None:
    assert set(contents(undisturbed.parent)) == {"model.safetensors", "model.jsonl"}
    model = MetaModel.load(undisturbed)
    assert (model.image_size, model.learner.name) == (32, "protonets")
    assert model.record["tasks"] == [6, 6]
    assert model.record["data"] == {"shapes": [f"thing {k}" for k in range(5)]}
    assert model.record["training"] == json.loads(json.dumps(asdict(QUICK)))
    assert events(undisturbed) == ["start", "step", "step", "step", "end"]
    last = log_of(undisturbed)[-2]
    assert last["task"] == 6
    assert {"loss", "accuracy", "tasks_per_second", "seconds"} <= set(last)
    assert len(model.adapt(shapes).class_names) == 5


def test_progress_is_reported(shapes: Path, tmp_path: Path) -> None:
    seen = []
    meta_train(shapes, tmp_path / "m.safetensors", QUICK, report=seen.append)
    assert (seen[0].phase, seen[0].total) == ("Reading shapes", 40)
    assert [(p.step, p.total) for p in seen if p.phase == "Meta-training"] == [
        (2, 6),
        (4, 6),
        (6, 6),
    ]
    assert set(seen[-1].values) == {"loss", "accuracy", "tasks/s"}


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["simple-cnaps", "cnaps", "protonets"])
def test_it_learns(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learner: str
) -> None:
    losses: list[float] = []

    def watched(*args: Any, **options: Any) -> LiteStep:
        step = lite_step(*args, **options)
        losses.append(step.loss)
        return step

    monkeypatch.setattr(STEP, watched)
    config = replace(QUICK, learner=learner, backbone="resnet18", tasks=20, lr=4e-3, save_every=100)
    meta_train(shapes, tmp_path / "m.safetensors", config)
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])


@pytest.mark.parametrize("learner", sorted(set(LEARNERS) - set(BY_GRADIENT)))
@pytest.mark.parametrize("h", [1, None])
def test_every_learner_by_its_name(
    shapes: Path, tmp_path: Path, learner: str, h: int | None
) -> None:
    output = tmp_path / "m.safetensors"
    config = replace(QUICK, learner=learner, h=h, sampling="informed", tasks=2)
    meta_train(shapes, output, config)
    assert MetaModel.load(output).learner.name == learner


def test_the_metric_of_protonets_is_kept(shapes: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    config = replace(QUICK, learner="protonets", metric="cosine", tasks=1)
    meta_train(shapes, output, config)
    assert MetaModel.load(output).learner.hyperparameters()["metric"] == "cosine"


def test_tasks_without_more_than_h_images_are_counted(shapes: Path, tmp_path: Path) -> None:
    config = replace(QUICK, tasks=2)
    for h, exact in ((1000, 2), (1, 0), (None, 0)):  # None asks for the exact gradient
        result = meta_train(shapes, tmp_path / f"{h}.safetensors", replace(config, h=h))
        assert result.exact == exact
    for gradient in ("full", "small-task"):  # which are not LITE's
        other = replace(config, h=1000, gradient=gradient)
        assert meta_train(shapes, tmp_path / f"{gradient}", other).exact == 0


def test_counts_are_of_the_whole_run(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "m.safetensors"
    config = replace(QUICK, h=1000)

    def disturbed(*args: Any, **options: Any) -> LiteStep:
        return interrupted(*args, **options) if next(calls) > 2 else failed(*args, **options)

    calls, interrupted, failed = itertools.count(1), stop_after(2), failing(lambda call: True)
    with monkeypatch.context() as patch:
        patch.setattr(STEP, disturbed)
        first = meta_train(shapes, output, config)
    assert (first.tasks, first.exact, first.skipped) == (4, 4, 1)
    last = meta_train(shapes, output, config, resume=True)
    assert (last.tasks, last.exact, last.skipped) == (6, 6, 1)


@pytest.mark.parametrize("learner", ["simple-cnaps", "protonets"])
def test_a_network_that_overflows_is_skipped_and_stopped_in_words(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learner: str
) -> None:
    """Not a `lite_step` that says so: features that are infinite in the support as in queries."""
    true = Backbone.forward
    monkeypatch.setattr(Backbone, "forward", lambda self, images: true(self, images) * 1e38 * 1e38)
    config = replace(QUICK, learner=learner, tasks=20, tasks_per_step=1)
    with pytest.raises(FewshotError, match=r"not finite in 5 steps in a row \(task 5\)"):
        meta_train(shapes, tmp_path / "m.safetensors", config)
    assert events(tmp_path / "m.safetensors").count("skipped") == 5


def test_the_micro_batch_may_change_when_a_run_goes_on(shapes: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(STEP, die_after(QUICK.tasks))
        with pytest.raises(MemoryError):
            meta_train(shapes, output, replace(QUICK, micro_batch=3, save_every=1))
    assert meta_train(shapes, output, QUICK, resume=True).finished


def test_an_unknown_learner_is_named_before_photos_are_read(shapes: Path, tmp_path: Path) -> None:
    seen: list[object] = []
    with pytest.raises(UsageError, match=r"'simple_cnaps': unknown.*simple-cnaps"):
        meta_train(
            shapes, tmp_path / "m", replace(QUICK, learner="simple_cnaps"), report=seen.append
        )
    assert not seen
    assert not contents(tmp_path)


def test_the_seed_decides(shapes: Path, undisturbed: Path, tmp_path: Path) -> None:
    for seed, same in ((0, True), (1, False)):
        output = tmp_path / f"{seed}.safetensors"
        meta_train(shapes, output, replace(QUICK, seed=seed))
        assert (tensors(output) == tensors(undisturbed)) == same


def tensors(path: Path) -> dict[str, bytes]:
    file = checkpoint.load(path, "meta")
    return {name: value.numpy().tobytes() for name, value in file.tensors.items()}


def test_the_callers_random_state_is_left_alone(shapes: Path, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    meta_train(shapes, tmp_path / "m", replace(QUICK, tasks=2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("task", [3, 6])
def test_a_run_that_died_and_was_resumed_is_the_undisturbed_run(
    shapes: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: int
) -> None:
    output = tmp_path / "model.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(STEP, die_after(task))
        with pytest.raises(MemoryError):
            meta_train(shapes, output, QUICK)
    assert MetaModel.load(output).record["tasks"] == [2 * ((task - 1) // 2), 6]
    assert meta_train(shapes, output, QUICK, resume=True).finished
    assert output.read_bytes() == undisturbed.read_bytes()
    assert set(contents(tmp_path)) == {"model.safetensors", "model.jsonl"}


def test_a_run_that_died_before_its_first_checkpoint_leaves_none(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(STEP, die_after(1))
    with pytest.raises(MemoryError):
        meta_train(shapes, tmp_path / "model.safetensors", QUICK)
    assert set(contents(tmp_path)) == {"model.jsonl"}


@pytest.mark.slow
def test_a_killed_run_that_was_resumed_is_the_undisturbed_run(shapes: Path, tmp_path: Path) -> None:
    config = replace(QUICK, learner="simple-cnaps", tasks=12)
    whole, output = tmp_path / "whole.safetensors", tmp_path / "model.safetensors"
    meta_train(shapes, whole, config)
    code = (
        "import sys, pathlib; from fewshot_lite.training.meta_train import *;"
        f"meta_train(pathlib.Path({str(shapes)!r}), pathlib.Path({str(output)!r}), {config!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 120
    while not output.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done, _ = MetaModel.load(output).record["tasks"]
    assert 0 < done < 12
    assert meta_train(shapes, output, config, resume=True).finished
    assert output.read_bytes() == whole.read_bytes()


def test_ctrl_c_leaves_a_usable_checkpoint_and_the_run_goes_on(
    shapes: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(STEP, stop_after(3))
        result = meta_train(shapes, output, replace(QUICK, save_every=100))
    assert (result.finished, result.tasks, result.total) == (False, 4, 6)
    assert MetaModel.load(output).adapt(shapes).class_names
    assert log_of(output)[-1] | {"seconds": 0} == {
        "seconds": 0,
        "event": "end",
        "task": 4,
        "finished": False,
    }
    # How often it saves does not change the run, so it may be changed.
    result = meta_train(shapes, output, replace(QUICK, save_every=1), resume=True)
    assert result.finished
    assert tensors(output) == tensors(undisturbed)
    assert [line["task"] for line in log_of(output) if line["event"] == "step"] == [2, 4, 6]


def test_resuming_needs_a_state_and_the_same_run(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model.safetensors"
    with pytest.raises(UsageError, match="nothing to resume"):
        meta_train(shapes, output, QUICK, resume=True)
    assert not contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(STEP, stop_after(1))
        meta_train(shapes, output, QUICK)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"--lr 0\.001, not --lr 0\.5"):
        meta_train(shapes, output, replace(QUICK, lr=0.5), resume=True)
    other = draw_classes(tmp_path / "other" / "shapes", classes(5, photos=9))
    with pytest.raises(UsageError, match="40 images, not 45 images"):
        meta_train(other, output, QUICK, resume=True)
    for name in ("model.state.safetensors", "model.state.previous.safetensors"):
        (tmp_path / name).write_bytes(b"\0" * 100)
    with pytest.raises(FewshotError, match=r"model\.state\.safetensors: "):
        meta_train(shapes, output, QUICK, resume=True)
    after = contents(tmp_path)
    for name in ("model.safetensors", "model.jsonl"):
        assert after[name] == before[name]


def test_an_output_that_exists_needs_force(shapes: Path, undisturbed: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.safetensors"
    output.write_text("precious")
    with pytest.raises(UsageError, match=r"exists already.*--force"):
        meta_train(shapes, output, QUICK)
    assert contents(tmp_path) == {"model.safetensors": b"precious"}
    meta_train(shapes, output, QUICK, force=True)
    assert output.read_bytes() == undisturbed.read_bytes()


def failing(bad: Callable[[int], bool], *, gradient: bool = False) -> Callable[..., LiteStep]:
    """A `lite_step` whose loss (or gradient alone) is not finite in some of its calls."""
    calls = 0

    def step(learner: Any, *args: Any, **options: Any) -> LiteStep:
        nonlocal calls
        calls += 1
        done = lite_step(learner, *args, **options)
        if not bad(calls):
            return done
        for parameter in learner.parameters():
            if parameter.grad is not None:
                parameter.grad.fill_(float("inf"))
        return done if gradient else LiteStep(float("nan"), 0.0)

    return step


@pytest.mark.parametrize("gradient", [False, True])
def test_steps_that_are_not_finite_are_skipped_and_logged(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gradient: bool
) -> None:
    monkeypatch.setattr(STEP, failing(lambda call: call == 3, gradient=gradient))
    output = tmp_path / "m.safetensors"
    result = meta_train(shapes, output, QUICK)
    assert result.finished
    assert result.skipped == 1
    assert 0 < result.loss < 10
    assert events(output) == ["start", "step", "skipped", "step", "step", "end"]
    assert all(
        torch.isfinite(value).all() for value in checkpoint.load(output, "meta").tensors.values()
    )


def test_five_failures_in_a_row_end_the_run(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(STEP, failing(lambda call: call > 2))
    output = tmp_path / "m.safetensors"
    config = replace(QUICK, tasks=20, tasks_per_step=1, save_every=2)
    with pytest.raises(FewshotError, match=r"5 steps in a row \(task 7\).*--lr \(now 0\.001\)"):
        meta_train(shapes, output, config)
    assert events(output).count("skipped") == 5
    assert all(
        torch.isfinite(value).all() for value in checkpoint.load(output, "meta").tensors.values()
    )


def test_a_short_run_that_learned_nothing_is_no_success(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(STEP, failing(lambda call: True))
    with pytest.raises(FewshotError, match="not finite in 3 steps in a row"):
        meta_train(shapes, tmp_path / "m", replace(QUICK, save_every=100))
    assert set(contents(tmp_path)) == {"m.jsonl"}


def test_failures_that_are_not_in_a_row_do_not_end_the_run(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(STEP, failing(lambda call: call % 2 == 0))
    output = tmp_path / "m.safetensors"
    assert meta_train(shapes, output, replace(QUICK, tasks=12, tasks_per_step=1)).finished
    assert events(output).count("skipped") == 6


def test_a_collection_trains_on_each_data_set_with_enough_classes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    draw_classes(data / "signs", {f"{k}": 4 for k in range(4)})
    draw_classes(data / "mugs", classes(3, photos=5))
    draw_classes(data / "two", classes(2, photos=5))
    output = tmp_path / "m.safetensors"
    meta_train(data, output, replace(QUICK, no_flip=("signs",), tracks=("mugs",), tasks=2))
    # "mugs" has files without "_": each class is one track then, and no class is left.
    assert list(MetaModel.load(output).record["data"]) == ["signs"]
    meta_train(data, output, replace(QUICK, no_flip=("signs", "two"), tasks=2), force=True)
    assert list(MetaModel.load(output).record["data"]) == ["mugs", "signs"]


@pytest.mark.parametrize("field", ["no_flip", "tracks"])
def test_names_that_no_data_set_has_are_refused(shapes: Path, tmp_path: Path, field: str) -> None:
    config = replace(QUICK, **{field: ("shapes", "shape")})
    flag = field.replace("_", "-")
    with pytest.raises(UsageError, match=f"--{flag} shape: there is no such data set in"):
        meta_train(shapes, tmp_path / "m", config)
    assert not contents(tmp_path)


@pytest.mark.parametrize(
    ("shots", "message"),
    [
        ({"a": 4, "b": 4}, r"Too few classes for tasks of 3.*'data', has 2 .*--min-way"),
        ({"a": 4, "b": 4, "c": 1, "d": 1}, r"has 2 with at least 2 photos"),
        (classes(5, photos=1), r"has 0 with at least 2 photos"),
        (classes(5, photos=0), r"no photos"),
        ({}, "empty|no class folders"),
    ],
)
def test_too_few_classes_or_photos(tmp_path: Path, shots: dict[str, int], message: str) -> None:
    data = draw_classes(tmp_path / "data", shots)
    data.mkdir(exist_ok=True)
    before = contents(tmp_path)
    with pytest.raises(FewshotError, match=message):
        meta_train(data, tmp_path / "m.safetensors", QUICK)
    assert contents(tmp_path) == before


def test_photos_that_cannot_be_read_are_left_out_and_named(tmp_path: Path) -> None:
    data = draw_classes(tmp_path / "data", classes(3, photos=4))
    (data / "thing 1" / "00.png").write_bytes(b"")
    (data / "thing 2" / "bröken.jpg").write_text("no photo")
    output = tmp_path / "m.safetensors"
    result = meta_train(data, output, replace(QUICK, tasks=4))
    assert result.unreadable == 2
    named = {
        Path(line["path"]).name: line["reason"]
        for line in log_of(output)
        if line["event"] == "unreadable"
    }
    assert named == {
        "00.png": "empty file (0 bytes)",
        "bröken.jpg": "not an image, or badly damaged",
    }


@pytest.fixture
def few_validation_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot_lite.training.validation._VALIDATION_TASKS", 3)


@pytest.mark.usefixtures("few_validation_tasks")
def test_validation_is_on_classes_kept_from_training(tmp_path: Path) -> None:
    data = draw_classes(tmp_path / "data", classes(9, photos=10))
    output = tmp_path / "m.safetensors"
    result = meta_train(data, output, replace(QUICK, tasks=4, validate_every=2))
    assert set(result.validation) == {"data", "mean"}
    assert 0 <= result.validation["mean"] <= 1
    assert events(output).count("validation") == 2
    model = MetaModel.load(output)
    assert len(model.record["data"]["data"]) == 6
    assert model.record["figures"]["validation"] == result.validation


@pytest.mark.usefixtures("few_validation_tasks")
def test_validation_on_folders_of_its_own(shapes: Path, tmp_path: Path) -> None:
    good = draw_classes(tmp_path / "good", classes(2, photos=10))
    output = tmp_path / "m.safetensors"
    config = replace(QUICK, tasks=2, validate_every=2)
    result = meta_train(shapes, output, config, validate=good)
    assert set(result.validation) == {"good", "mean"}
    assert len(MetaModel.load(output).record["data"]["shapes"]) == 5


@pytest.mark.usefixtures("few_validation_tasks")
def test_validation_leaves_out_what_is_too_small_and_says_so(shapes: Path, tmp_path: Path) -> None:
    data = tmp_path / "validation"
    draw_classes(data / "mugs", {**classes(3, photos=10), "few": 9, "none": 0})
    draw_classes(data / "pens", {"a": 10, "b": 9})
    output = tmp_path / "m.safetensors"
    result = meta_train(shapes, output, replace(QUICK, tasks=2, validate_every=2), validate=data)
    assert set(result.validation) == {"mugs", "mean"}
    named = {
        line["data_set"]: line["classes"] for line in log_of(output) if line["event"] == "left out"
    }
    assert named == {"mugs": ["few", "none"], "pens": ["a", "b"]}
    assert result.not_validated == 4


@pytest.mark.usefixtures("few_validation_tasks")
def test_validation_takes_the_micro_batch(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = draw_classes(tmp_path / "good", classes(2, photos=10))
    sizes: list[int] = []
    true = Backbone.forward

    def watched(self: Backbone, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return true(self, images)

    monkeypatch.setattr(Backbone, "forward", watched)
    config = replace(QUICK, tasks=2, validate_every=2, micro_batch=3)
    meta_train(shapes, tmp_path / "m.safetensors", config, validate=good)
    assert max(sizes) == 3


@pytest.mark.parametrize("shots", [{"only": 30}, classes(5, photos=9), classes(3, photos=1)])
def test_validation_needs_classes_and_photos(
    shapes: Path, tmp_path: Path, shots: dict[str, int]
) -> None:
    bad = draw_classes(tmp_path / "bad", shots)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"--validate-every 2: no classes with 10 photos"):
        meta_train(shapes, tmp_path / "m", replace(QUICK, validate_every=2), validate=bad)
    assert contents(tmp_path) == before


def test_validation_data_without_saying_how_often(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--validate .*--validate-every"):
        meta_train(shapes, tmp_path / "m", QUICK, validate=shapes)


def test_validation_without_enough_classes_to_keep_some(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--validate-every 2: no classes .*--validate"):
        meta_train(shapes, tmp_path / "m", replace(QUICK, validate_every=2))
    assert not contents(tmp_path)


def test_a_bad_configuration_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--tasks 0"):
        meta_train(tmp_path / "nowhere", tmp_path / "m", MetaTrainConfig(tasks=0))


def test_results_are_json_able(shapes: Path, tmp_path: Path) -> None:
    result = meta_train(shapes, tmp_path / "m", replace(QUICK, tasks=2))
    assert isinstance(result, MetaTrainResult)
    assert json.loads(json.dumps(asdict(result), default=str))["tasks"] == 2


def test_embeddings_stay_centred_as_the_set_encoder_learns(shapes: Path, tmp_path: Path) -> None:
    """A high learning rate moves them by many deviations otherwise, all alike."""
    output = tmp_path / "model.safetensors"
    config = replace(QUICK, learner="simple-cnaps", lr=0.05, tasks=8)
    meta_train(shapes, output, config)
    learner = MetaModel.load(output).learner
    images, _ = decode(scan_classes(shapes).paths, SIZE)
    embeddings = learner.embed(images)
    assert float(embeddings.mean(0).abs().mean()) < 1
    varying = embeddings.std(0) > 1e-3
    assert bool(varying.any())
    assert 0.3 < float(embeddings.std(0)[varying].mean()) < 3


@pytest.mark.usefixtures("few_validation_tasks")
def test_the_best_weights_are_written_and_the_last_gone_on_with(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validations say 0.5, 0.9, 0.2: what is written is what the second one saw."""
    good = draw_classes(tmp_path / "good", classes(2, photos=10))
    seen: list[dict[str, bytes]] = []

    def scored(self: Any, learner: Any, *rest: Any) -> dict[str, float]:
        seen.append({k: v.numpy().tobytes() for k, v in learner.state_dict().items()})
        return {"good": (score := [0.5, 0.9, 0.2][len(seen) - 1]), "mean": score}

    monkeypatch.setattr("fewshot_lite.training.validation.ValidationTasks.run", scored)
    output = tmp_path / "m.safetensors"
    config = replace(QUICK, validate_every=2)
    with monkeypatch.context() as patch:
        patch.setattr(STEP, die_after(6))
        with pytest.raises(MemoryError):
            meta_train(shapes, output, config, validate=good)
    result = meta_train(shapes, output, config, validate=good, resume=True)
    assert (result.best_after, result.validation) == (4, {"good": 0.9, "mean": 0.9})
    model = MetaModel.load(output)
    assert (model.record["tasks"], model.record["best_after"]) == ([6, 6], 4)
    bias = "backbone.network.conv5.1.bias"  # stored in full precision
    written = model.learner.state_dict()[bias].numpy().tobytes()
    assert written == seen[1][bias] != seen[2][bias]
    scores = [line for line in log_of(output) if line["event"] == "validation"]
    assert [line["best"] for line in scores] == [True, True, False]


@pytest.mark.usefixtures("few_validation_tasks")
def test_a_run_ends_when_it_has_waited_long_enough(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = draw_classes(tmp_path / "good", classes(2, photos=10))
    scores = iter([0.5, 0.4, 0.6, 0.6, 0.1, 0.9])
    monkeypatch.setattr(
        "fewshot_lite.training.validation.ValidationTasks.run", lambda *args: {"mean": next(scores)}
    )
    config = replace(QUICK, tasks=12, validate_every=2, patience=2)
    result = meta_train(shapes, tmp_path / "m.safetensors", config, validate=good)
    assert result.finished
    assert (result.tasks, result.best_after) == (10, 6)
    assert not list(tmp_path.glob("*.state*"))


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["protonets", "simple-cnaps"])
def test_averaged_weights_are_written_and_survive_a_crash(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learner: str
) -> None:
    config = replace(QUICK, learner=learner, ema=0.9, optimizer="adamw", clip_norm=0.5)
    whole, output, plain = (tmp_path / name for name in ("w", "m", "p"))
    meta_train(shapes, whole, config)
    meta_train(shapes, plain, replace(config, ema=None))
    assert tensors(whole) != tensors(plain)
    with monkeypatch.context() as patch:
        patch.setattr(STEP, die_after(5))
        with pytest.raises(MemoryError):
            meta_train(shapes, output, config)
    meta_train(shapes, output, config, resume=True)
    assert output.read_bytes() == whole.read_bytes()


def test_a_damaged_state_is_told_and_the_one_before_it_gone_on_from(
    shapes: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(STEP, die_after(6))
        with pytest.raises(MemoryError):
            meta_train(shapes, output, QUICK)
    state = tmp_path / "model.state.safetensors"
    state.write_bytes(state.read_bytes()[:-9])
    told: list[str] = []
    meta_train(shapes, output, QUICK, resume=True, notice=told.append)
    assert len(told) == 1
    assert "Going on from the state before it" in told[0]
    assert "damaged state" in events(output)
    assert output.read_bytes() == undisturbed.read_bytes()
    assert set(contents(tmp_path)) == {"model.safetensors", "model.jsonl"}


def test_a_run_killed_before_its_first_state_begins_again(
    shapes: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(STEP, die_after(1))
        with pytest.raises(MemoryError):
            meta_train(shapes, output, QUICK)
    assert meta_train(shapes, output, QUICK, resume=True).finished
    assert output.read_bytes() == undisturbed.read_bytes()


def test_sigterm_is_told_apart_from_ctrl_c(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, terminated in ((signal.SIGTERM, True), (signal.SIGINT, False)):
        step = _disturbed(1, lambda number=number: os.kill(os.getpid(), number))
        with monkeypatch.context() as patch:
            patch.setattr(STEP, step)
            result = meta_train(shapes, tmp_path / f"{terminated}", QUICK)
        assert (result.finished, result.tasks, result.terminated) == (False, 2, terminated)


def test_a_log_on_a_full_disk_is_one_clear_line(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    monkeypatch.setattr("fewshot_lite.training.state.log_path", lambda output: Path("/dev/full"))
    with pytest.raises(FewshotError, match="/dev/full: the log cannot be written"):
        meta_train(shapes, tmp_path / "m", QUICK, force=True)
