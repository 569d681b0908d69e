"""A backbone cut into stages, one after the other, so that it can be run from one on.

What adapts only the upper stages computes the lower ones once, however many steps it takes, and
needs no graph through them. Networks whose forward pass is not known here are one stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.conv4 import Conv4
from fewshot_lite.networks.efficientnet_lite import EfficientNetLite


@dataclass(frozen=True)
class Stage:
    """A part of a network."""

    name: str
    modules: tuple[str, ...]
    """Names in the network of the modules whose parameters are this stage's."""
    run: Callable[[Tensor], Tensor]


class Staged(nn.Module):
    """A backbone to be run in part; shares its modules, parameters are named "backbone.…"."""

    def __init__(self, backbone: Backbone) -> None:
        """Cut a backbone, which is used as it is, not copied."""
        super().__init__()
        self.backbone = backbone
        self.stages = stages_of(backbone.network)

    def forward(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Run stages `start` to before `stop`.

        Args:
            x: `backbone.prepared(images)` if `start` is 0, else what stage `start - 1` gave.
            start: first stage.
            stop: the stage before which to stop; None to go on to the features (B, d).
        """
        for stage in self.stages[start:stop]:
            x = stage.run(x)
        return x.flatten(1) if stop is None else x

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that a pattern has digits for: stages, from the images up, and the head."""
        return (*(stage.name for stage in self.stages), "head")

    def parameter_names(self) -> list[list[str]]:
        """Names of each stage's parameters, "backbone.network.…", every parameter once."""
        names: list[list[str]] = []
        for stage in self.stages:
            prefixes = tuple(f"backbone.network.{module}." for module in stage.modules)
            names.append(
                [
                    name
                    for name, _ in self.named_parameters()
                    if name.startswith(prefixes) or stage.modules == ("",)
                ]
            )
        return names

    def norm_layers(self, start: int) -> list[str]:
        """Names in the backbone of the norm layers from stage `start` on."""
        modules = [module for stage in self.stages[start:] for module in stage.modules]
        prefixes = tuple(f"network.{module}." for module in modules)
        return [name for name in self.backbone.norm_layers() if f"{name}.".startswith(prefixes)]


def stages_of(network: nn.Module) -> list[Stage]:
    """The stages of a network whose last linear layer was taken off; together they are it."""
    if isinstance(network, Conv4):
        blocks = [(f"block{i + 1}", f"features.{i}") for i in range(len(network.features))]
        return _chain(network, blocks, (), lambda x: x.flatten(1))
    if isinstance(network, EfficientNetLite):
        return _of_features(network)
    return _of_torchvision(network)


def _of_features(network: Any) -> list[Stage]:
    """The stages of networks of `features`, `avgpool` and `classifier`."""
    return _chain(
        network,
        _children(network.features),
        ("classifier",),
        lambda x: network.classifier(network.avgpool(x).flatten(1)),
        joined=nn.BatchNorm2d,  # in VGG beside its convolution, elsewhere inside blocks
    )


def _of_torchvision(network: Any) -> list[Stage]:
    from fewshot_lite.networks.torchvision_models import models  # not cheap, and seldom needed

    if isinstance(network, models.ResNet):
        return [
            Stage("stem", ("conv1", "bn1"), lambda x: network.maxpool(_stem(network, x))),
            *_chain(
                network,
                [(f"layer{i}", f"layer{i}") for i in range(1, 5)],
                ("fc",),
                lambda x: network.fc(network.avgpool(x).flatten(1)),
            ),
        ]
    if isinstance(network, models.RegNet):
        blocks = [
            (name, f"trunk_output.{name}") for name, _ in network.trunk_output.named_children()
        ]
        return _chain(
            network,
            [("stem", "stem"), *blocks],
            ("fc",),
            lambda x: network.fc(network.avgpool(x).flatten(1)),
        )
    if isinstance(network, models.MobileNetV2):
        return _chain(
            network,
            _children(network.features),
            ("classifier",),
            lambda x: network.classifier(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1)),
        )
    if isinstance(network, models.EfficientNet | models.MobileNetV3 | models.VGG):
        return _of_features(network)
    if isinstance(network, models.ConvNeXt):
        return _chain(
            network,
            _children(network.features),
            ("classifier",),
            lambda x: network.classifier(network.avgpool(x)),
        )
    return [Stage("network", ("",), network)]


def _stem(network: Any, x: Tensor) -> Tensor:
    found: Tensor = network.relu(network.bn1(network.conv1(x)))
    return found


def _children(features: nn.Sequential) -> list[tuple[str, str]]:
    return [(f"features.{name}", f"features.{name}") for name, _ in features.named_children()]


def _chain(
    network: nn.Module,
    parts: Iterable[tuple[str, str]],
    tail_modules: tuple[str, ...],
    tail: Callable[[Tensor], Tensor],
    joined: type[nn.Module] | tuple[type[nn.Module], ...] = (),
) -> list[Stage]:
    """Stages of modules one after the other; those without parameters join the one before.

    Args:
        parts: name of the stage and of the module, in order.
        tail_modules: with what comes after the last, joined to it.
        tail: that.
        joined: kinds of modules that join the one before, too.
    """
    groups: list[tuple[str, list[str]]] = []
    for name, path in parts:
        module = network.get_submodule(path)
        bare = not any(True for _ in module.parameters())
        if groups and (bare or isinstance(module, joined)):
            groups[-1][1].append(path)
        else:
            groups.append((name, [path]))
    stages = []
    for number, (name, paths) in enumerate(groups):
        last = number == len(groups) - 1
        modules = [network.get_submodule(path) for path in paths]
        owned = (*paths, *(tail_modules if last else ()))
        stages.append(Stage(name, owned, _run(modules, tail if last else None)))
    return stages


def _run(
    modules: list[nn.Module], tail: Callable[[Tensor], Tensor] | None
) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        for module in modules:
            x = module(x)
        return tail(x) if tail is not None else x

    return run
