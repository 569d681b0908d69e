"""Features at several scales side by side: one backbone, whatever is done with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.learners import SimpleCnaps
from fewshot_lite.lite import step as lite
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.model import PersonalModel
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.meta_train import meta_train
from photos import QUICK, SIZE, classes, draw_classes, redescribe, tiny_model
from tiny import TinyBackbone, random_task


def test_features_are_those_of_each_scale_side_by_side() -> None:
    backbone = TinyBackbone().eval()
    images = torch.rand(3, 3, 16, 16)
    whole = backbone(images)
    halved = backbone(F.avg_pool2d(images, 2))
    backbone.look_at((1, 2))
    assert backbone.feature_dim == 12
    torch.testing.assert_close(backbone(images), torch.cat([whole, halved], dim=1))
    backbone.look_at((1,))
    assert backbone.feature_dim == 6
    torch.testing.assert_close(backbone(images), whole)


@pytest.mark.parametrize("scales", [(), (0,), (1, 1), (-2,)])
def test_scales_that_are_none(scales: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="scales"):
        TinyBackbone().look_at(scales)


def test_the_exact_gradient_goes_through_all_scales() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = TinyBackbone().double()
        backbone.look_at((1, 2))
        learner = SimpleCnaps(backbone, embedding_dim=8, encoder_size=16).double()
        for name, parameter in learner.film.named_parameters():
            if name.endswith(("rho", "sigma")):
                torch.nn.init.normal_(parameter, 0.0, 0.3)
        task = random_task([3, 3], 4)
    lite.lite_step(learner, task, torch.Generator(), h=None, micro_batch=2, penalty_weight=0.0)
    got = {n: p.grad.clone() for n, p in learner.named_parameters() if p.grad is not None}
    learner.zero_grad()
    theta = learner.norm_parameters(learner.embed(task.support).mean(0))
    statistics = learner.head.fit(learner.features(task.support, theta), task.support_labels, 2)
    logits = learner.head.logits(statistics, learner.features(task.query, theta))
    F.cross_entropy(logits, task.query_labels).backward()
    assert got.keys() >= {n for n, _ in learner.film.named_parameters(prefix="film")}
    for name, parameter in learner.named_parameters():
        if name in got and parameter.grad is not None:
            torch.testing.assert_close(got[name], parameter.grad, rtol=1e-9, atol=1e-12)


def test_scales_are_kept_in_base_and_personal_models(tmp_path: Path) -> None:
    model = tiny_model()
    model.learner.backbone.look_at((1, 2))
    base = tmp_path / "base.safetensors"
    model.save(base)
    folder = draw_classes(tmp_path / "things", classes(3, photos=4))
    loaded = MetaModel.load(base)
    assert loaded.learner.backbone.scales == (1, 2)
    personal = loaded.adapt(folder)
    assert personal.features.shape[1] == 2 * 1024
    images = torch.rand(2, 3, SIZE, SIZE)
    again = PersonalModel.load(personal.save(tmp_path / "personal.safetensors"))
    torch.testing.assert_close(again.probabilities(images), personal.probabilities(images))


@pytest.mark.parametrize("damage", [[], [0], ["2"], "12", [1, 1], None])
def test_damaged_scales_are_one_line(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "base.safetensors"
    tiny_model().save(path)
    redescribe(path, {"scales": damage})
    with pytest.raises(FewshotError, match="damaged"):
        MetaModel.load(path)


def test_meta_training_at_two_scales(tmp_path: Path) -> None:
    data = draw_classes(tmp_path / "things", classes(5, photos=8))
    output = tmp_path / "model.safetensors"
    meta_train(data, output, replace(QUICK, scales=(1, 2)))
    assert MetaModel.load(output).learner.backbone.scales == (1, 2)


@pytest.mark.parametrize("scales", [(), (2, 2), (0,)])
def test_scales_that_no_run_can_have(scales: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="--scales"):
        MetaTrainConfig(scales=scales).check()
