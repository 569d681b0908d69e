"""FiLM on the upper stages alone: what lies below is computed once, and read by the set encoder."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fewshot_lite.core.errors import UsageError
from fewshot_lite.learners import Cnaps, SimpleCnaps
from fewshot_lite.learners.film_learner import _channels
from fewshot_lite.lite.step import lite_step
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.film import folded
from fewshot_lite.networks.set_encoder import MapEncoder
from fewshot_lite.networks.stages import Staged
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.meta_train import meta_train
from photos import QUICK, classes, draw_classes
from tiny import random_task

RUN = replace(QUICK, learner="simple-cnaps", backbone="mobilenet_v3_small")


def learner_of(name: str = "resnet18", stages: int = 2, **given: float) -> SimpleCnaps:
    """With FiLM far from the identity, as after training."""
    learner = SimpleCnaps(Backbone(name, 32, seed=1), film_stages=stages, **given)
    for path, parameter in learner.film.named_parameters():
        if path.endswith((".rho", ".sigma")):
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    learner.set_encoder.standardise(learner.lower_maps(torch.rand(20, 3, 32, 32)))
    return learner.requires_grad_(False)


def test_an_adapted_network_is_the_plain_one_with_other_upper_norm_layers() -> None:
    learner = learner_of()
    images, labels = torch.rand(6, 3, 32, 32), torch.tensor([0, 0, 1, 1, 2, 2])
    task = learner.adapt(images, labels, 3)
    upper = {n for n in learner.backbone.norm_layers() if n.split(".")[1] in ("layer3", "layer4")}
    assert {name.rpartition(".")[0] for name in task.parameters} == upper
    network = folded(learner.backbone, task.parameters)
    torch.testing.assert_close(task.support_features, network(images), rtol=1e-4, atol=1e-5)
    queries = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(task.features(queries), network(queries), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network(queries), learner.backbone(queries), rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "resnet50", "regnet_y_400mf", "mobilenet_v2", "mobilenet_v3_small"),
        *("efficientnet_b0", "efficientnet_lite0", "convnext_tiny", "vgg11_bn", "conv4"),
    ],
)
def test_the_set_encoder_takes_the_map_below_every_stage(name: str) -> None:
    backbone = Backbone(name, 32, initialise=False).eval()
    staged = Staged(backbone)
    x = backbone.prepared(torch.zeros(1, 3, 32, 32))
    for start in range(1, len(staged.stages)):
        x = staged(x, start - 1, start)
        assert _channels(staged, start) == x.shape[1]


def test_an_image_goes_through_each_stage_once() -> None:
    learner = learner_of()
    rows: Counter[str] = Counter()
    for name in ("conv1", "layer2", "layer3"):

        def count(module: object, given: tuple[torch.Tensor, ...], name: str = name) -> None:
            rows[name] += len(given[0])

        learner.backbone.network.get_submodule(name).register_forward_pre_hook(count)
    learner.adapt(torch.rand(6, 3, 32, 32), torch.tensor([0, 0, 1, 1, 2, 2]), 3, micro_batch=4)
    assert rows == {"conv1": 6, "layer2": 6, "layer3": 6}


def test_another_support_set_gives_another_network() -> None:
    learner, labels = learner_of(), torch.tensor([0, 1])
    dark, light = (learner.adapt(s * torch.rand(2, 3, 32, 32), labels, 2) for s in (0.3, 1.0))
    name = "network.layer4.1.bn2.weight"
    assert not torch.allclose(dark.parameters[name], light.parameters[name])


def test_the_embedding_is_of_each_channels_mean_and_deviation() -> None:
    encoder = MapEncoder(4, embedding_dim=8)
    maps = torch.randn(30, 4, 5, 5) * torch.rand(30, 4, 1, 1) + 3
    encoder.standardise(maps)
    seen: list[torch.Tensor] = []
    encoder.layers.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    assert encoder(maps).shape == (30, 8)
    torch.testing.assert_close(seen[0].mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[0].std(0, correction=0), torch.ones(8), atol=1e-3, rtol=0)
    raw = seen[0] * encoder.spread + encoder.centre
    torch.testing.assert_close(raw[:, :4], maps.mean((2, 3)))
    torch.testing.assert_close(raw[:, 4:], maps.flatten(2).std(2, correction=0))


def test_what_lies_below_is_not_learned() -> None:
    """LITE's estimate is unbiased only if x of an image does not depend on what is learned."""
    learner = SimpleCnaps(Backbone("resnet18", 32), film_stages=2, backbone_lr=0.1)
    named = dict(learner.backbone.network.named_parameters())
    learned = {name for name, parameter in named.items() if parameter.requires_grad}
    expected = {name for name in named if name.startswith(("layer3", "layer4"))}
    assert learned == expected
    groups = {group["name"]: group["params"] for group in learner.parameter_groups(1.0)}
    assert len(groups["backbone"]) == len(expected)
    lite_step(learner, random_task([2, 1], 3, 32, torch.float32), torch.Generator(), h=2)
    for name, parameter in named.items():
        assert (parameter.grad is not None) == (name in expected), name


@pytest.mark.parametrize("kind", [SimpleCnaps, Cnaps])
def test_it_is_kept_in_a_checkpoint(kind: type[SimpleCnaps], tmp_path: Path) -> None:
    learner = kind(Backbone("mobilenet_v3_small", 32), film_stages=5, hidden_dim=16)
    path = tmp_path / "base.safetensors"
    MetaModel(learner, 32).save(path)
    loaded = MetaModel.load(path).learner
    assert loaded.hyperparameters() == learner.hyperparameters()
    images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 0, 1, 1])
    expected = learner.adapt(images, labels, 2).support_features
    torch.testing.assert_close(loaded.adapt(images, labels, 2).support_features, expected)


@pytest.mark.parametrize(
    ("name", "stages", "reason"),
    [
        ("resnet18", 5, "resnet18 has 5 stages, so give 1 to 4"),
        ("resnet18", 0, "give 1 to 4"),
        ("densenet121", 1, "densenet121 cannot be run in stages"),
    ],
)
def test_stages_that_a_network_does_not_have(name: str, stages: int, reason: str) -> None:
    with pytest.raises(UsageError, match=f"--film-stages.*{reason}"):
        SimpleCnaps(Backbone(name, 32, initialise=False), film_stages=stages)


def test_meta_training_with_it(tmp_path: Path) -> None:
    data = draw_classes(tmp_path / "things", classes(5, photos=8))
    output = tmp_path / "model.safetensors"
    meta_train(data, output, replace(RUN, film_stages=4))
    loaded = MetaModel.load(output).learner
    assert loaded.hyperparameters()["film_stages"] == 4
    assert isinstance(loaded.set_encoder, MapEncoder)
    assert bool((loaded.set_encoder.centre != 0).any())


def test_other_learners_have_no_use_for_it() -> None:
    with pytest.raises(UsageError, match="--film-stages"):
        MetaTrainConfig(learner="protonets", film_stages=2).check()
