"""Stages put together are the network, of each family of torchvision's, and own its parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fewshot_lite.core.checkpoint import Uninitialised
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.conv4 import Conv4
from fewshot_lite.networks.names import _FAMILIES
from fewshot_lite.networks.stages import Staged, stages_of
from fewshot_lite.networks.torchvision_models import models

pytestmark = pytest.mark.slow

#: A small member of each class of networks, its number of stages, and a size of images.
FAMILIES = {
    "resnet18": (5, 32),
    "regnet_y_400mf": (5, 32),
    "efficientnet_b0": (9, 32),
    "mobilenet_v2": (19, 32),
    "mobilenet_v3_small": (13, 32),
    "vgg11_bn": (8, 32),
    "convnext_tiny": (8, 32),
    "densenet121": (1, 32),
    "shufflenet_v2_x0_5": (1, 32),
    "swin_t": (1, 32),
    "vit_b_32": (1, 32),
    "conv4": (4, 16),
}

#: Families of the same classes, and one that is a stage as others are, but slow.
ALIKE = {"resnext": "resnet18", "wide_resnet": "resnet18", "regnet_x_": "regnet_y_400mf"}
SLOW = ("maxvit_",)


def build(name: str, size: int) -> nn.Module:
    """Without the time that random weights take: each tensor's values rise evenly."""
    fixed = {"image_size": size} if name.startswith("vit") else {}
    with Uninitialised():
        network = Conv4(size) if name == "conv4" else models.get_model(name, **fixed)
        if name == "vgg11_bn":
            network.classifier = nn.Sequential(nn.Linear(512 * 49, 8))  # for 120 million weights
        if name == "conv4":
            network.classifier = nn.Identity()  # as a backbone has it
    tensors = {
        key: torch.linspace(-0.1, 0.1, value.numel()).view(value.shape)
        if value.is_floating_point()
        else torch.zeros(value.shape, dtype=value.dtype)
        for key, value in network.state_dict().items()
    }
    tensors |= {k: v.abs() + 0.5 for k, v in tensors.items() if "running_var" in k}
    network.load_state_dict(tensors, strict=False)
    return network.eval()


class Built(Backbone):
    """A backbone around a network."""

    def __init__(self, network: nn.Module) -> None:
        nn.Module.__init__(self)
        self.network = network


def test_every_family_is_looked_at() -> None:
    for family in _FAMILIES:
        if family in ALIKE:
            with Uninitialised():
                one = models.get_model(family + _FAMILIES[family].split()[0])
                other = models.get_model(ALIKE[family])
            assert type(one) is type(other)
        elif family not in SLOW:
            assert any(name.startswith(family) for name in FAMILIES), family


@pytest.mark.parametrize(("name", "stages", "size"), [(n, *v) for n, v in FAMILIES.items()])
def test_stages_put_together_are_the_network(name: str, stages: int, size: int) -> None:
    network = build(name, size)
    staged = Staged(Built(network))
    assert len(staged.stages) == stages
    assert staged.layers == (*(stage.name for stage in staged.stages), "head")
    x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = network(x).flatten(1)
        assert whole.isfinite().all()
        torch.testing.assert_close(staged(x), whole)
        for k in range(1, stages + 1):
            torch.testing.assert_close(staged(staged(x, 0, k), k), whole)
    names = [name for found in staged.parameter_names() for name in found]
    assert all(staged.parameter_names()), "a stage without parameters"
    assert sorted(names) == sorted(n for n, _ in staged.named_parameters())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vgg11_bn", "conv4"])
def test_a_stage_runs_on_its_own_parameters_alone(name: str) -> None:
    """What a stage computes changes with each of its parameters' stages, and with no other's."""
    network = build(name, FAMILIES[name][1])
    staged = Staged(Built(network))
    x = torch.rand(2, 3, *[FAMILIES[name][1]] * 2)
    names = staged.parameter_names()
    for k in range(len(names)):
        staged.requires_grad_(True)
        with torch.no_grad():
            before = staged(x, 0, k)
        staged(before, k, k + 1).sum().backward()
        touched = {n for n, p in staged.named_parameters() if p.grad is not None}
        assert touched == set(names[k])
        staged.zero_grad(set_to_none=True)


def test_networks_that_are_not_known_are_one_stage() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    assert [stage.name for stage in stages_of(network)] == ["network"]
