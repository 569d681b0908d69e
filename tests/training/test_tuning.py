"""Tuning: it moves what it should and no more, stays near where it is told to, and resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fewshot_lite.training.tuning
from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import UsageError
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.training.meta_train import meta_train
from fewshot_lite.training.tune_config import TuneConfig
from fewshot_lite.training.tuning import tune
from photos import QUICK, QUICK_PRETRAIN, classes, contents, draw_classes

CONFIG = TuneConfig(
    image_size=32, stages=2, steps=6, views=1, sets_per_step=2, batch_size=6, precision="float32"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw_classes(folder / "shapes", classes(4, photos=6))
    draw_classes(folder / "signs", classes(3, photos=6), seed=1)
    return folder


@pytest.fixture(scope="module")
def start(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights to begin with."""
    output = tmp_path_factory.mktemp("start") / "start.safetensors"
    fewshot_lite.pretrain(data, output, replace(QUICK_PRETRAIN, backbone="conv4"))
    return output


def network(path: Path) -> dict[str, Tensor]:
    return load_backbone(None, str(path), None)[0].network.state_dict()


def test_the_upper_stages_move_without_depthwise_kernels_and_statistics(
    data: Path, tmp_path: Path
) -> None:
    start = tmp_path / "start.safetensors"
    backbone, _ = load_backbone("mobilenet_v3_small", "none", 32)
    for norm in backbone.norm_layers().values():  # or random kernels leave nothing of a gradient
        torch.nn.init.constant_(norm.weight, 3.0)
    meta = {"backbone": backbone.name, "image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    checkpoint.save(start, "backbone", backbone.network.state_dict(), meta)
    output = tmp_path / "tuned.safetensors"
    result = tune(data, output, replace(CONFIG, weights=str(start), steps=2, lr=0.02))
    assert (result.finished, result.step) == (True, 2)
    assert set(contents(tmp_path)) == {"start.safetensors", "tuned.safetensors", "tuned.jsonl"}
    before, after = network(start), network(output)
    # Kernels are written in half precision.
    moved = {name for name in before if not torch.equal(before[name].half(), after[name].half())}
    depthwise = {
        f"{name}.weight"
        for name, module in backbone.network.named_modules()
        if getattr(module, "groups", 1) > 1
    }
    assert any(name.startswith("features.11.") for name in moved)
    assert any(name.startswith("features.11.") for name in depthwise)
    assert all(name.startswith(("features.11.", "features.12.", "classifier.")) for name in moved)
    assert not moved & depthwise
    assert not any("running" in name or "num_batches" in name for name in moved)
    record = load_backbone(None, str(output), None)[1]
    assert set(record["pretrained"]["classes"]) == {"shapes", "signs"}


@pytest.mark.slow
def test_it_learns_and_holding_keeps_features_near(data: Path, start: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, weights=str(start), steps=20, lr=2e-3)
    still = tune(data, tmp_path / "still.safetensors", replace(config, lr=1e-9))
    free = tune(data, tmp_path / "free.safetensors", config)
    assert free.loss < 0.85 * still.loss
    tune(data, tmp_path / "held.safetensors", replace(config, hold=30.0))
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)

    def strayed(path: Path) -> float:
        with torch.no_grad():
            former = load_backbone(None, str(start), None)[0](images)
            found = load_backbone(None, str(path), None)[0](images)
        return float((found - former).norm() / former.norm())

    assert strayed(tmp_path / "held.safetensors") < 0.8 * strayed(tmp_path / "free.safetensors")


@pytest.mark.slow
def test_the_weights_written_are_part_of_the_way_from_the_anchor(
    data: Path, start: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, weights=str(start), lr=2e-3)
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    tune(data, whole, config)
    tune(data, half, replace(config, strength=0.5))
    before, after, between = network(start), network(whole), network(half)
    for name, value in before.items():
        middle = (value + after[name]) / 2 if value.is_floating_point() else value
        torch.testing.assert_close(between[name], middle, rtol=2e-3, atol=2e-3)
    again = tmp_path / "again.safetensors"
    tune(data, again, replace(config, weights=str(whole), anchor=str(start), steps=1, lr=1e-9))
    for name, value in network(again).items():
        torch.testing.assert_close(value, after[name], rtol=2e-3, atol=2e-3)


def test_resumed_after_a_sudden_end_it_is_the_undisturbed_run(
    data: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, weights=str(start))
    whole, output = tmp_path / "whole" / "t.safetensors", tmp_path / "t.safetensors"
    whole.parent.mkdir()
    tune(data, whole, config)
    course = fewshot_lite.training.tuning._Tuning
    monkeypatch.setattr(course, "save_every", 2)
    drawing = course._draw

    def die(self: fewshot_lite.training.tuning._Tuning, random: torch.Generator) -> Tensor:
        if (tmp_path / "t.state.safetensors").exists():
            raise MemoryError
        return drawing(self, random)

    monkeypatch.setattr(course, "_draw", die)
    with pytest.raises(MemoryError):
        tune(data, output, config)
    assert checkpoint.read_meta(output)["steps"] == [2, 6]
    monkeypatch.setattr(course, "_draw", drawing)
    assert tune(data, output, config, resume=True).finished
    assert output.read_bytes() == whole.read_bytes()


def test_meta_training_goes_on_from_it(data: Path, start: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned.safetensors"
    tune(data, tuned, replace(CONFIG, weights=str(start), leave_out=0.3))
    config = replace(QUICK, learner="simple-cnaps", backbone=None, weights=str(tuned), tasks=2)
    model = tmp_path / "model.safetensors"
    meta_train(data, model, replace(config, film_stages=2, min_way=2))
    seen = checkpoint.read_meta(tuned)["classes"]
    assert {name: len(names) for name, names in seen.items()} == {"shapes": 3, "signs": 2}
    assert MetaModel.load(model).record["pretraining"]["classes"] == seen


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "none"}, "--weights none: tuning starts from trained weights"),
        ({"anchor": "none"}, "--anchor none"),
        ({"anchor": "gone.safetensors"}, "--anchor gone.safetensors: no such file"),
        ({"stages": 99}, "--stages 99: conv4 has 4 stages"),
        ({"hold_set": ("shapes",)}, "--hold-set shapes: of no use without --hold"),
        ({"hold": 1.0, "hold_set": ("mugs",)}, "--hold-set mugs: there is no such data set in"),
        ({"no_flip": ("mugs",)}, "--no-flip mugs: there is no such data set in"),
        ({"strength": 0.0}, "--strength 0"),
    ],
)
def test_what_cannot_be_is_refused(
    data: Path, start: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    config = replace(replace(CONFIG, weights=str(start)), **change)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        tune(data, tmp_path / "t.safetensors", config)
    assert not contents(tmp_path)


def test_an_anchor_with_other_lower_stages_is_refused(
    data: Path, start: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    config = replace(QUICK_PRETRAIN, backbone="conv4", epochs=1, seed=1)
    fewshot_lite.pretrain(data, other, config)
    with pytest.raises(UsageError, match="--anchor: its lower stages are not those of --weights"):
        tune(data, tmp_path / "t", replace(CONFIG, weights=str(start), anchor=str(other)))
