"""The sum of tasks' gradients rounds to the same in any order, and is what `.grad` would hold."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from fewshot_lite.core.ranks import Place, Ranks
from fewshot_lite.training.gradients import GradientSum

ALONE = Ranks(Place())


def test_in_any_order_the_same_to_the_bit_and_right() -> None:
    module = nn.Linear(50, 40)
    images = [torch.randn(8, 50) * 10.0**k for k in range(4)]
    found = []
    for order in itertools.permutations(images):
        total = GradientSum(module)
        for batch in order:
            module(batch).square().mean().backward()
            total.add()
            assert module.weight.grad is None
        total.finish(ALONE)
        assert module.weight.grad is not None
        found.append(module.weight.grad.clone())
        module.zero_grad()
    assert all(torch.equal(gradient, found[0]) for gradient in found)
    sum(module(batch).square().mean() for batch in images).backward()
    assert torch.allclose(found[0], module.weight.grad, rtol=1e-5)
    assert found[0].dtype is torch.float32


def test_a_parameter_without_a_gradient_keeps_none() -> None:
    module = nn.ModuleDict({"used": nn.Linear(2, 1), "unused": nn.Linear(2, 1)})
    total = GradientSum(module)
    module["used"](torch.ones(1, 2)).sum().backward()
    total.add()
    total.finish(ALONE)
    assert module["used"].weight.grad.tolist() == [[1, 1]]
    assert module["unused"].weight.grad is None


def test_strided_weights_keep_their_layout() -> None:
    module = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    total = GradientSum(module)
    module(torch.rand(1, 3, 5, 5)).sum().backward()
    before = module.weight.grad.clone()
    total.add()
    total.finish(ALONE)
    assert torch.equal(module.weight.grad, before)
    assert module.weight.grad.stride() == module.weight.stride()
