"""The largest value of each channel instead of its mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.model import PersonalModel
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.meta_train import meta_train
from photos import QUICK, SIZE, classes, draw_classes, redescribe, tiny_model


def test_features_are_the_largest_values_of_the_last_map() -> None:
    backbone = Backbone("resnet18", 64).eval()
    maps: list[torch.Tensor] = []
    backbone.network.layer4.register_forward_hook(lambda *call: maps.append(call[-1]))
    images = torch.rand(2, 3, 64, 64)
    mean = backbone(images)
    backbone.pool_by("max")
    largest = backbone(images)
    torch.testing.assert_close(mean, maps[0].mean((2, 3)))
    torch.testing.assert_close(largest, maps[1].flatten(2).max(2).values)
    assert (largest > mean).any()
    backbone.pool_by("mean")
    torch.testing.assert_close(backbone(images), mean)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v3_small", "regnet_y_400mf"])
def test_networks_that_end_in_a_mean(name: str) -> None:
    backbone = Backbone(name, 64).eval()
    images = torch.rand(2, 3, 64, 64)
    mean = backbone(images)
    backbone.pool_by("max")
    assert backbone(images).shape == mean.shape
    assert not torch.equal(backbone(images), mean)


@pytest.mark.parametrize("name", ["densenet121", "conv4"])
def test_networks_that_do_not(name: str) -> None:
    backbone = Backbone(name, 32, initialise=False)
    backbone.pool_by("mean")
    with pytest.raises(UsageError, match=f"--pooling max: {name}"):
        backbone.pool_by("max")
    assert backbone.pooling == "mean"


def test_it_is_kept_in_base_and_personal_models(tmp_path: Path) -> None:
    model = tiny_model("mobilenet_v3_small")
    model.learner.backbone.pool_by("max")
    base = tmp_path / "base.safetensors"
    model.save(base)
    loaded = MetaModel.load(base)
    assert loaded.learner.backbone.pooling == "max"
    folder = draw_classes(tmp_path / "things", classes(3, photos=4))
    personal = loaded.adapt(folder)
    images = torch.rand(2, 3, SIZE, SIZE)
    again = PersonalModel.load(personal.save(tmp_path / "personal.safetensors"))
    torch.testing.assert_close(again.probabilities(images), personal.probabilities(images))
    assert again.backbone.pooling == "max"


@pytest.mark.parametrize("damage", ["sum", None, 1, []])
def test_damage_is_one_line(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "base.safetensors"
    tiny_model().save(path)
    redescribe(path, {"pooling": damage})
    with pytest.raises(FewshotError, match=r"damaged.*pooling"):
        MetaModel.load(path)


def test_files_from_before_there_was_a_choice_have_the_mean(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    tiny_model().save(path)
    redescribe(path, {}, without="pooling")
    assert MetaModel.load(path).learner.backbone.pooling == "mean"


@pytest.mark.slow
def test_meta_training_with_it(tmp_path: Path) -> None:
    data = draw_classes(tmp_path / "things", classes(5, photos=8))
    output = tmp_path / "model.safetensors"
    meta_train(data, output, replace(QUICK, backbone="mobilenet_v3_small", pooling="max"))
    assert MetaModel.load(output).learner.backbone.pooling == "max"


def test_a_configuration_without_such_pooling() -> None:
    with pytest.raises(UsageError, match="--pooling sum"):
        MetaTrainConfig(pooling="sum").check()  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_run_refuses_it_where_it_cannot_be(tmp_path: Path) -> None:
    data = draw_classes(tmp_path / "things", classes(5, photos=8))
    output = tmp_path / "model.safetensors"
    with pytest.raises(UsageError, match="--pooling max: vgg11_bn does not end in a mean"):
        meta_train(data, output, replace(QUICK, backbone="vgg11_bn", pooling="max"))
    assert not output.exists()
