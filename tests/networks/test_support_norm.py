"""Normalising by the support set's statistics."""

from __future__ import annotations

import copy

import torch
from torch import nn

from fewshot_lite.networks.conv4 import Conv4
from fewshot_lite.networks.support_norm import SupportNorm, support_rows, use_support_norm


def network() -> nn.Sequential:
    found = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))
    found.append(nn.Sequential(nn.BatchNorm2d(4)))
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    return found.double().eval()


def images(number: int) -> torch.Tensor:
    return torch.rand(number, 3, 9, 9, dtype=torch.float64)


def test_parameters_buffers_and_names_stay() -> None:
    plain = network()
    swapped = copy.deepcopy(plain)
    use_support_norm(swapped)
    assert swapped.state_dict().keys() == plain.state_dict().keys()
    x = images(3)
    assert torch.equal(swapped(x), plain(x))  # running statistics until told otherwise
    assert sum(isinstance(m, SupportNorm) for m in swapped.modules()) == 2


def test_the_support_set_is_normalised_by_itself_and_queries_by_it() -> None:
    plain = network()
    swapped = copy.deepcopy(plain)
    use_support_norm(swapped)
    support, queries = images(6), images(2)
    with torch.no_grad():
        expected = copy.deepcopy(plain).train()(support)
        with support_rows(swapped, 6):
            alone = swapped(support)
            both = swapped(torch.cat([support, queries]))
            fewer = swapped(torch.cat([support, queries[:1]]))
    assert torch.allclose(alone, expected)
    assert torch.allclose(both[:6], expected)
    assert torch.allclose(both[6:7], fewer[6:])  # whatever else is asked about
    assert not torch.allclose(both[6:], plain(queries))


def test_recorded_statistics_make_the_plain_network_the_same() -> None:
    swapped = network()
    use_support_norm(swapped)
    support, queries = images(6), images(2)
    record: dict[str, torch.Tensor] = {}
    with torch.no_grad(), support_rows(swapped, 6, record):
        expected = swapped(torch.cat([support, queries]))
    assert set(record) == {n for n, _ in swapped.named_buffers() if "running" in n}
    plain = network()
    plain.load_state_dict(swapped.state_dict() | record)
    assert torch.allclose(plain(torch.cat([support, queries])), expected)
    assert not any(m.rows for m in swapped.modules() if isinstance(m, SupportNorm))


def test_gradients_go_through_the_statistics() -> None:
    swapped = network()
    use_support_norm(swapped)
    support = images(4).requires_grad_()
    queries = images(2)

    def loss(support: torch.Tensor) -> torch.Tensor:
        with support_rows(swapped, 4):
            return swapped(torch.cat([support, queries]))[4:].square().sum()

    assert torch.autograd.gradcheck(loss, (support,))


def test_conv4_has_the_papers_shape() -> None:
    net = Conv4(28)
    assert net.features(torch.zeros(2, 3, 28, 28)).shape == (2, 64, 1, 1)
    assert Conv4(84).classifier.in_features == 1600
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64] * 4
