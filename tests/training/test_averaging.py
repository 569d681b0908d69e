"""Averaged weights, other weights for a while, and the best ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fewshot_lite.training.averaging import AveragedWeights, snapshot, using
from fewshot_lite.training.best import Best


def module(value: float) -> nn.Module:
    made = nn.BatchNorm2d(2)
    with torch.no_grad():
        made.weight.fill_(value)
    made.bias.requires_grad_(False)
    return made


def test_the_average_is_of_learned_weights_and_starts_short() -> None:
    net = module(0.0)
    average = AveragedWeights(net, 0.5)
    assert set(average.tensors) == {"weight"}
    expected = 0.0
    for number, value in enumerate((1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0)):
        net.weight.data.fill_(value)
        average.update()
        decay = min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * value
        assert average.tensors["weight"].tolist() == pytest.approx([expected] * 2)
    again = AveragedWeights(net, 0.5)
    again.restore(average.tensors, average.updates)
    average.update()
    again.update()
    assert torch.equal(again.tensors["weight"], average.tensors["weight"])


def test_other_weights_for_a_while_leave_no_trace() -> None:
    net = module(1.0)
    before = snapshot(net)

    def also() -> None:
        net.running_mean.fill_(7)  # type: ignore[union-attr, operator]

    with using(net, {"weight": torch.full((2,), 5.0)}, also):
        assert net.weight.tolist() == [5, 5]
        assert net.running_mean.tolist() == [7, 7]  # type: ignore[union-attr, operator]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_best_is_the_first_of_equals_and_a_copy() -> None:
    net, best = module(1.0), Best()
    assert best.offer(10, {"mean": 0.5}, net.state_dict())
    net.weight.data.fill_(2.0)
    assert not best.offer(20, {"mean": 0.5}, net.state_dict())
    assert not best.offer(30, {"mean": 0.4}, net.state_dict())
    assert (best.task, best.waited) == (10, 2)
    assert best.tensors["weight"].tolist() == [1, 1]
    assert best.offer(40, {"mean": 0.6}, net.state_dict())
    assert best.notes() == {"task": 40, "scores": {"mean": 0.6}, "waited": 0}
