"""Meta-training in seconds: the loop with validation and averages, resuming, a step's gradient.

The quick tests go through it here; `test_meta_training` has the rest.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_lite.core.ranks import Ranks
from fewshot_lite.lite.step import lite_step
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.training import validation
from fewshot_lite.training.gradients import GradientSum
from fewshot_lite.training.meta_setup import prepare
from fewshot_lite.training.meta_step import step_gradients, task_step
from fewshot_lite.training.meta_train import meta_train
from fewshot_lite.training.prefetch import Prefetch
from photos import QUICK, classes, contents, draw_classes

CONFIG = replace(
    QUICK,
    learner="simple-cnaps",
    backbone="conv4",
    tasks=4,
    min_way=2,
    max_way=3,
    gradient="lite",
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_classes(tmp_path_factory.mktemp("data") / "shapes", classes(6, photos=10))


@pytest.mark.slow
def test_a_killed_run_with_validation_and_averages_ends_as_the_undisturbed_one(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "_VALIDATION_TASKS", 2)
    config = replace(CONFIG, ema=0.5, validate_every=2)
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    result = meta_train(shapes, whole, config)
    assert (result.finished, result.tasks, result.skipped) == (True, 4, 0)
    calls = 0

    def die_at_the_third(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise MemoryError
        return lite_step(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("fewshot_lite.training.meta_step.lite_step", die_at_the_third)
        with pytest.raises(MemoryError):
            meta_train(shapes, parts, config)
    assert meta_train(shapes, parts, config, resume=True).finished
    assert parts.read_bytes() == whole.read_bytes()
    left = {"whole.safetensors", "whole.jsonl", "parts.safetensors", "parts.jsonl"}
    assert set(contents(tmp_path)) == left
    record = MetaModel.load(whole).record
    assert record["tasks"] == [4, 4]
    assert record["computed"]["threads"] == torch.get_num_threads()
    assert record["computed"]["precision"] == "float32"
    lines = whole.with_suffix(".jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert events == ["start", "step", "validation", "step", "validation", "end"]


def test_a_step_has_the_mean_gradient_of_its_tasks(shapes: Path) -> None:
    setup = prepare(shapes, CONFIG, CPU)
    numbers = range(1, 4)
    expected: dict[str, torch.Tensor] = {}
    for number in numbers:
        setup.learner.zero_grad()
        task_step(setup, CONFIG, setup.train.task(number), number, 1 / 3)
        for name, parameter in setup.learner.named_parameters():
            if parameter.grad is not None:
                expected[name] = expected.get(name, 0) + parameter.grad.clone()
    with Prefetch(setup.train, list(numbers), CPU, workers=0) as tasks:
        result = step_gradients(setup, CONFIG, numbers, tasks, GradientSum(setup.learner), Ranks())
    assert len(result.losses) == 3
    for name, parameter in setup.learner.named_parameters():
        assert (parameter.grad is not None) == (name in expected)
        if parameter.grad is not None:
            assert torch.allclose(parameter.grad, expected[name], rtol=1e-4, atol=1e-7), name
