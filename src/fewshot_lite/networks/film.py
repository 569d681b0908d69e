"""FiLM, folded into the parameters of the normalisation layers.

Feature-wise linear modulation after a normalisation layer, γ·(w·x̂ + b) + β, is that layer with
w' = γw and b' = γb + β. So no network is rewritten: an adapted backbone is `functional_call` with
generated norm parameters, and a personal model is the plain network with these values stored.

The generator follows the published CNAPs code (Requeima et al. 2019, section 2.2): for each norm
layer, from the task embedding z, γ = 1 + ρ ⊙ G(z) and β = σ ⊙ B(z) with small learned ρ, σ.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from fewshot_lite.core.config import FilmLayers
from fewshot_lite.core.errors import UsageError
from fewshot_lite.networks.backbone import Backbone, NormLayer

#: The task-specific parameters of an adapted backbone, by name in the backbone: norm parameters
#: (C,), and for gradient learners other weights and norm statistics as well.
NormParameters = dict[str, Tensor]


class FilmGenerator(nn.Module):
    """θ = g(z): generates the norm parameters of a backbone from a task embedding."""

    def __init__(
        self,
        backbone: Backbone,
        embedding_dim: int,
        hidden_dim: int | None = None,
        layers: Collection[str] | None = None,
    ) -> None:
        """Build a small network for each parameter of each norm layer.

        Args:
            backbone: the backbone to modulate.
            embedding_dim: Z, width of the task embedding.
            hidden_dim: hidden width; Z by default.
            layers: names of the norm layers to modulate; all by default.
        """
        super().__init__()
        hidden = hidden_dim or embedding_dim
        self.layers = nn.ModuleDict(
            {
                _key(name): _LayerGenerator(layer, embedding_dim, hidden)
                for name, layer in backbone.norm_layers().items()
                if layers is None or name in layers
            }
        )

    def forward(self, backbone: Backbone, z: Tensor) -> NormParameters:
        """Return the norm parameters w' = γw, b' = γb + β of a task.

        Args:
            backbone: holds w and b, which receive gradients if they are learned.
            z: task embedding (Z,).
        """
        parameters: NormParameters = {}
        for name, layer in backbone.norm_layers().items():
            if _key(name) in self.layers:
                gamma, beta = self.layers[_key(name)](z)
                parameters |= modulate(name, layer, gamma, beta)
        return parameters

    def penalty(self) -> Tensor:
        """Return ‖ρ‖² + ‖σ‖² over all layers, (), which keeps FiLM near the identity."""
        layers = cast(Iterable[_LayerGenerator], self.layers.values())
        terms = [g.rho.square().sum() + g.sigma.square().sum() for g in layers]
        return torch.stack(terms).sum()


def modulated_layers(backbone: Backbone, which: FilmLayers) -> dict[str, NormLayer]:
    """Return the norm layers that FiLM modulates, by name.

    Args:
        which: "all"; or "depthwise", the first and last layer and those after depthwise
            convolutions, as the code of Bronskill et al. 2021 does in EfficientNet-B0 (18 layers,
            20,544 values).

    Raises:
        UsageError: "depthwise", and the backbone has no depthwise convolutions.
    """
    layers = backbone.norm_layers()
    if which == "all":
        return layers
    after, convolution = set(), None
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            convolution = module
        elif name in layers and convolution is not None:
            depthwise = 1 < convolution.groups == convolution.in_channels
            after |= {name} if depthwise else set()
    if not after:
        raise UsageError(f"--film-layers {which}: {backbone.name} has no depthwise convolutions.")
    kept = after | {next(iter(layers)), next(reversed(layers))}
    return {name: layer for name, layer in layers.items() if name in kept}


class _LayerGenerator(nn.Module):
    """Generates γ = 1 + ρ ⊙ G(z) and β = σ ⊙ B(z) of one norm layer."""

    def __init__(self, layer: NormLayer, embedding_dim: int, hidden_dim: int) -> None:
        super().__init__()
        channels = layer.weight.numel()
        self.gamma = _mlp(embedding_dim, hidden_dim, channels)
        self.beta = _mlp(embedding_dim, hidden_dim, channels)
        self.rho = nn.Parameter(torch.empty(channels).normal_(std=0.001))
        self.sigma = nn.Parameter(torch.empty(channels).normal_(std=0.001))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return 1 + self.rho * self.gamma(z), self.sigma * self.beta(z)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def modulate(name: str, layer: NormLayer, gamma: Tensor, beta: Tensor) -> NormParameters:
    """Return w' = γw and b' = γb + β of one norm layer, (C,) each, by name in the backbone.

    Raises:
        ValueError: the layer has no bias to carry β.
    """
    if layer.bias is None:
        raise ValueError(f"norm layer {name} has no bias")
    return {f"{name}.weight": gamma * layer.weight, f"{name}.bias": gamma * layer.bias + beta}


def fold(backbone: Backbone, parameters: NormParameters) -> None:
    """Copy adapted parameters into the backbone, in place."""
    named = dict(backbone.named_parameters()) | dict(backbone.named_buffers())
    with torch.no_grad():
        for name, value in parameters.items():
            named[name].copy_(value)


def folded(backbone: Backbone, parameters: NormParameters) -> Backbone:
    """Return a copy of the backbone with adapted parameters."""
    backbone = copy.deepcopy(backbone)
    fold(backbone, parameters)
    return backbone


def _key(name: str) -> str:
    return name.replace(".", "/")  # nn.ModuleDict allows no dots
