"""Schedules, optimisers, groups and clipping as they are asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim import Adam, AdamW

from fewshot_lite.core.errors import UsageError
from fewshot_lite.learners import ProtoNets, SimpleCnaps
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.optimisation import (
    gradient_norm,
    make_optimizer,
    schedule,
    set_learning_rate,
    split_decay,
)

CONFIG = MetaTrainConfig(tasks=100, tasks_per_step=1, lr=0.01)


def cnaps(backbone_lr: float = 0.0) -> SimpleCnaps:
    return SimpleCnaps(Backbone("shufflenet_v2_x0_5", 32), backbone_lr=backbone_lr)


def test_a_cosine_falls_from_the_warm_up_to_zero() -> None:
    shares = [schedule(task, CONFIG) for task in range(100)]
    assert shares[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert shares[5:] == sorted(shares[5:], reverse=True)
    assert shares[-1] < 0.001


@pytest.mark.parametrize(
    ("warmup", "first", "full"), [(0.0, 1.0, 0), (0.29, 1 / 30, 29), (7.0, 1 / 8, 7)]
)
def test_constant_after_a_warm_up_of_a_share_or_of_tasks(
    warmup: float, first: float, full: int
) -> None:
    config = replace(CONFIG, schedule="constant", warmup=warmup)
    shares = [schedule(task, config) for task in range(100)]
    assert shares[0] == pytest.approx(first)
    assert [task for task, share in enumerate(shares) if share == 1] == list(range(full, 100))


def test_a_warm_up_counts_the_tasks_of_its_first_step() -> None:
    config = replace(CONFIG, schedule="constant", warmup=12.0, tasks_per_step=4)
    shares = [schedule(task, config) for task in range(0, 24, 4)]
    assert shares == pytest.approx([4 / 16, 8 / 16, 12 / 16, 1, 1, 1])


def test_groups_have_their_factors_and_follow_the_schedule() -> None:
    config = replace(CONFIG, lr_factor={"film": 3.0, "backbone": 0.5}, schedule="constant")
    optimizer = make_optimizer(cnaps(0.1), config)
    peaks = {group["name"]: group["peak"] for group in optimizer.param_groups}
    expected = {"set-encoder": 0.01, "film": 0.03, "head": 0.2, "backbone": 0.0005}
    assert peaks == pytest.approx(expected)
    set_learning_rate(optimizer, schedule(0, config))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 / 6)
    set_learning_rate(optimizer, schedule(50, config))
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.03)


def test_a_group_that_is_not_learned_is_refused() -> None:
    config = replace(CONFIG, lr_factor={"backbone": 0.5})
    with pytest.raises(UsageError, match=r"--lr-factor backbone=0\.5.*set-encoder, film, head"):
        make_optimizer(cnaps(), config)
    assert make_optimizer(ProtoNets(Backbone("shufflenet_v2_x0_5", 32)), config)


def test_weight_decay_is_for_matrices_and_kernels() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    group = {"name": "all", "params": module.parameters(), "lr": 0.5}
    decayed, others = split_decay(group, 0.1)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3, 3, 3), (2, 16)]
    assert [tuple(p.shape) for p in others["params"]] == [(4,), (4,), (4,), (2,)]
    assert {(part["name"], part["lr"]) for part in (decayed, others)} == {("all", 0.5)}


def test_adamw_decays_matrices_alone() -> None:
    assert type(make_optimizer(cnaps(), CONFIG)) is Adam
    for given, expected in ((None, 0.01), (0.3, 0.3)):
        config = replace(CONFIG, optimizer="adamw", weight_decay=given)
        optimizer = make_optimizer(cnaps(), config)
        assert isinstance(optimizer, AdamW)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                assert group["weight_decay"] == (expected if parameter.ndim > 1 else 0)
        learned = [p for p in cnaps().parameters() if p.requires_grad]
        assert sum(len(group["params"]) for group in optimizer.param_groups) == len(learned)


def test_long_gradients_are_shortened_and_others_left() -> None:
    module = nn.Linear(2, 1, bias=False)

    def after(gradient: list[float], clip: float | None) -> tuple[float, list[float]]:
        module.weight.grad = torch.tensor([gradient])
        norm = gradient_norm(module, clip=clip)
        return float(norm), module.weight.grad[0].tolist()

    assert after([3.0, 4.0], None) == (5.0, [3.0, 4.0])
    assert after([3.0, 4.0], 6.0) == (5.0, pytest.approx([3.0, 4.0]))
    assert after([3.0, 4.0], 1.0) == (5.0, pytest.approx([0.6, 0.8], rel=1e-5))
    assert after([float("inf"), 4.0], 1.0)[1] == [float("inf"), 4.0]
