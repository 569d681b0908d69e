"""Split a backbone into consecutive stages that can be run separately.

A learner that adapts only the upper stages computes the lower ones once for any number of steps,
and without a graph. Networks whose forward pass is not known here are a single stage.
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
    """A stage of a network."""

    name: str
    modules: tuple[str, ...]
    """Names in the network of this stage's modules."""
    run: Callable[[Tensor], Tensor]


class Staged(nn.Module):
    """A backbone that can be run in part; its parameters are shared and named "backbone.…"."""

    def __init__(self, backbone: Backbone) -> None:
        """Split a backbone, without copying it."""
        super().__init__()
        self.backbone = backbone
        self.stages = stages_of(backbone.network)

    def forward(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Run the stages from `start` up to, not including, `stop`.

        Args:
            x: `backbone.prepared(images)` if `start` is 0, else the output of stage `start - 1`.
            start: first stage.
            stop: the stage to stop before; None runs up to the features (B, d).
        """
        for stage in self.stages[start:stop]:
            x = stage.run(x)
        return x.flatten(1) if stop is None else x

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of a Lambda pattern: the stages, from the images up, and the head."""
        return (*(stage.name for stage in self.stages), "head")

    def parameter_names(self) -> list[list[str]]:
        """Return the names of each stage's parameters, "backbone.network.…", each once."""
        names: list[list[str]] = []
        for stage in self.stages:
            prefixes = tuple(f"backbone.network.{module}." for module in stage.modules)
            whole = stage.modules == ("",)  # the network is a single stage
            parameters = [name for name, _ in self.named_parameters()]
            names.append([name for name in parameters if whole or name.startswith(prefixes)])
        return names

    def norm_layers(self, start: int) -> list[str]:
        """Return the names in the backbone of the norm layers from stage `start` on."""
        modules = [module for stage in self.stages[start:] for module in stage.modules]
        prefixes = tuple(f"network.{module}." for module in modules)
        return [name for name in self.backbone.norm_layers() if f"{name}.".startswith(prefixes)]


def stages_of(network: nn.Module) -> list[Stage]:
    """Return the stages of a network without its last linear layer.

    Modules without parameters belong to the stage before them. So does batch normalisation at the
    top level, as in VGG and in ResNet's stem.
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
    """Return consecutive (stage name, module) pairs, and the modules after them."""
    flat = nn.Flatten()
    if isinstance(network, Conv4):
        blocks = enumerate(network.features, start=1)
        return [(f"block{number}", block) for number, block in blocks], [flat]
    if isinstance(network, EfficientNetLite):
        return _features(network), [network.avgpool, flat, network.classifier]
    from fewshot_lite.networks.torchvision_models import models  # slow to import

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
