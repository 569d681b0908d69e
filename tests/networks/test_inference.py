"""Stages run by onnxruntime are the stages that torch runs."""

from __future__ import annotations

import pytest
import torch

import fewshot_lite
from fewshot_lite.learners import SimpleCnaps
from fewshot_lite.networks import sessions
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.inference import compiled
from fewshot_lite.networks.stages import Staged
from fewshot_lite.personal.one_pass import adapt_in_one_pass

SIZE = 52


@pytest.fixture(scope="module")
def learner() -> SimpleCnaps:
    learner = fewshot_lite.load().learner
    assert isinstance(learner, SimpleCnaps)
    return learner


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    torch.manual_seed(0)
    coarse = torch.rand(6, 3, 6, 6)
    return (
        (torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic") * 255).clamp(0, 255).byte()
    )


@torch.no_grad()
@pytest.mark.parametrize("start", [1, 9, 17])
def test_parts(learner: SimpleCnaps, images: torch.Tensor, start: int) -> None:
    staged = Staged(learner.backbone)
    below = staged(learner.backbone.prepared(images), 0, start)
    lower = compiled(learner.backbone, SIZE, stop=start)
    upper = compiled(learner.backbone, SIZE, start=start)
    assert lower is not None
    assert upper is not None
    torch.testing.assert_close(lower(images), below, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(upper(below), learner.backbone(images), rtol=1e-4, atol=1e-4)


def test_adapting(learner: SimpleCnaps, images: torch.Tensor) -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    told: list[tuple[int, int]] = []
    by_torch, other = (
        adapt_in_one_pass(
            learner,
            images,
            labels,
            2,
            by_onnxruntime=engine,
            on_done=lambda *done: told.append(done),
        )
        for engine in (False, True)
    )
    assert told == [(3, 6), (6, 6)] * 2
    assert other.views == by_torch.views
    for name, value in by_torch.classifier.parameters.items():
        torch.testing.assert_close(other.classifier.parameters[name], value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        other.classifier.support_features,
        by_torch.classifier.support_features,
        rtol=1e-4,
        atol=1e-4,
    )
    assert not torch.equal(
        other.classifier.support_features, by_torch.classifier.support_features
    ), "the same engine"


def test_what_torch_has_to_run(learner: SimpleCnaps, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled(Backbone("shufflenet_v2_x0_5", 32), 32) is None
    assert compiled(Backbone("efficientnet_lite0", 32).to("meta"), 32) is None
    bias = {"network.features.0.1.bias": torch.full((32,), torch.nan)}
    assert compiled(learner.backbone, SIZE, parameters=bias) is None
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert sessions._threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert sessions._threads() == 0
