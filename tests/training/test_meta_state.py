"""Averaged weights, copies with other weights, and the best ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fewshot_lite.training.meta_state import BestWeights, averaged_learner, with_weights


def module(value: float) -> nn.Module:
    made = nn.BatchNorm2d(2)
    with torch.no_grad():
        made.weight.fill_(value)
    made.bias.requires_grad_(False)
    return made


def test_the_average_is_of_the_weights_and_starts_short() -> None:
    net = module(0.0)
    average = averaged_learner(net, 0.5)  # type: ignore[arg-type]
    net.running_mean.fill_(7)  # type: ignore[union-attr, operator]
    expected = 1.0
    for number, value in enumerate((1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0)):
        net.weight.data.fill_(value)
        average.update_parameters(net)
        decay = min(0.5, (1 + number) / (10 + number)) if number else 0.0  # the first is taken
        expected = decay * expected + (1 - decay) * value
        assert average.module.weight.tolist() == pytest.approx([expected] * 2)
    assert average.module.running_mean.tolist() == [7, 7]
    again = averaged_learner(net, 0.5)  # type: ignore[arg-type]
    again.load_state_dict(average.state_dict())
    average.update_parameters(net)
    again.update_parameters(net)
    assert torch.equal(again.module.weight, average.module.weight)


def test_a_copy_with_other_weights_leaves_the_original_and_its_gradients() -> None:
    net = module(1.0)
    net.weight.grad = torch.ones(2)
    weights = {name: torch.full_like(value, 5) for name, value in net.state_dict().items()}
    other = with_weights(net, weights)  # type: ignore[arg-type]
    assert other.weight.tolist() == [5, 5]
    assert other.weight.grad is None
    assert (net.weight.tolist(), net.weight.grad.tolist()) == ([1, 1], [1, 1])


def test_the_best_is_the_first_of_equals_and_a_copy() -> None:
    net, best = module(1.0), BestWeights()
    assert best.offer(10, {"mean": 0.5}, net.state_dict())
    net.weight.data.fill_(2.0)
    assert not best.offer(20, {"mean": 0.5}, net.state_dict())
    assert not best.offer(30, {"mean": 0.4}, net.state_dict())
    assert (best.task, best.waited) == (10, 2)
    assert best.tensors["weight"].tolist() == [1, 1]
    assert best.offer(40, {"mean": 0.6}, net.state_dict())
    assert (best.task, best.scores, best.waited) == (40, {"mean": 0.6}, 0)
