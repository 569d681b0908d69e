"""A backbone cut into stages, one after the other, so that it can be run from one on.

What adapts only the upper stages computes the lower ones once, however many steps it takes, and
needs no graph through them. Networks whose forward pass is not known here are one stage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    """The stages of a network whose last linear layer was taken off; together they are it.

    Modules without parameters join the stage before, and so does batch normalisation, which in VGG
    and in ResNet's stem stands beside its convolution and elsewhere inside blocks.
    """
    parts, tail = _parts(network)
    groups: list[tuple[str, list[nn.Module]]] = []
    for name, module in parts:
        bare = not any(True for _ in module.parameters())
        if groups and (bare or isinstance(module, nn.BatchNorm2d)):
            groups[-1][1].append(module)
        else:
            groups.append((name, [module]))
    groups[-1][1].extend(tail)
    paths = {module: path for path, module in network.named_modules()}
    return [
        Stage(name, tuple(paths[m] for m in modules if m in paths), nn.Sequential(*modules))
        for name, modules in groups
    ]


def _parts(network: Any) -> tuple[list[tuple[str, nn.Module]], list[nn.Module]]:
    """Modules one after the other, each with what its stage is called; and what comes after."""
    flat = nn.Flatten()
    if isinstance(network, Conv4):
        blocks = enumerate(network.features, start=1)
        return [(f"block{number}", block) for number, block in blocks], [flat]
    if isinstance(network, EfficientNetLite):
        return _features(network), [network.avgpool, flat, network.classifier]
    from fewshot_lite.networks.torchvision_models import models  # not cheap, and seldom needed

    if isinstance(network, models.ResNet):
        stem = (network.conv1, network.bn1, network.relu, network.maxpool)
        layers = (network.layer1, network.layer2, network.layer3, network.layer4)
        parts = [("stem", module) for module in stem]
        parts += [(f"layer{number}", layer) for number, layer in enumerate(layers, start=1)]
        return parts, [network.avgpool, flat, network.fc]
    if isinstance(network, models.RegNet):
        parts = [("stem", network.stem), *network.trunk_output.named_children()]
        return parts, [network.avgpool, flat, network.fc]
    if isinstance(network, models.MobileNetV2):
        return _features(network), [nn.AdaptiveAvgPool2d(1), flat, network.classifier]
    if isinstance(network, models.EfficientNet | models.MobileNetV3 | models.VGG):
        return _features(network), [network.avgpool, flat, network.classifier]
    if isinstance(network, models.ConvNeXt):
        return _features(network), [network.avgpool, network.classifier]
    return [("network", network)], []


def _features(network: Any) -> list[tuple[str, nn.Module]]:
    return [(f"features.{name}", module) for name, module in network.features.named_children()]
