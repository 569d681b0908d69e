"""Fine-tuning to a task: what LITE's one forward pass is compared with.

Bronskill et al. 2021, section 5.1, and the ORBIT code: 50 steps of Adam at 1e-3 on the whole
support set, a linear layer that starts at zero (`init_zeros`), the backbone's statistics fixed;
with FiLM, γ and β of each norm layer too. Nothing is drawn at random.

What is learned is kept in float64. Adam divides a gradient by its own size: where the true gradient
is zero (the biases at the first step of a balanced task), rounding errors of float32 would become
steps of full length, and the size of micro-batches would show in the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from fewshot_lite.backbones import Backbone
from fewshot_lite.film import NormParameters, modulate
from fewshot_lite.learners.base import Cast


@dataclass(frozen=True)
class FineTuning:
    """The optimiser's settings."""

    steps: int = 50
    lr: float = 1e-3
    """Of Adam."""


@dataclass(frozen=True)
class Linear:
    """A linear layer: weight (K, d), bias (K,)."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def zeros(cls, classes: int, width: int, device: torch.device) -> Linear:
        """The layer as it starts."""
        dtype = _precise(device)
        return cls(
            torch.zeros(classes, width, dtype=dtype, device=device, requires_grad=True),
            torch.zeros(classes, dtype=dtype, device=device, requires_grad=True),
        )

    def __call__(self, features: Tensor) -> Tensor:
        """Logits (B, K) of features (B, d)."""
        return F.linear(features.to(self.weight.dtype), self.weight, self.bias)

    def detach(self) -> Linear:
        """The layer without its graph."""
        return Linear(self.weight.detach(), self.bias.detach())


@torch.enable_grad()
def fine_tune_head(features: Tensor, labels: Tensor, classes: int, settings: FineTuning) -> Linear:
    """Fit a linear layer to support features (N, d) with labels (N,)."""
    layer = Linear.zeros(classes, features.shape[1], features.device)
    optimizer = torch.optim.Adam([layer.weight, layer.bias], lr=settings.lr)
    for _ in range(settings.steps):
        optimizer.zero_grad()
        F.cross_entropy(layer(features), labels).backward()
        optimizer.step()
    return layer.detach()


@torch.enable_grad()
def fine_tune_film(
    backbone: Backbone,
    images: Tensor,
    labels: Tensor,
    classes: int,
    settings: FineTuning,
    *,
    micro_batch: int,
    cast: Cast,
) -> tuple[NormParameters, Linear]:
    """Fit a linear layer and FiLM to support images (N, 3, S, S) with labels (N,).

    The loss is a sum over images, so its gradient is added up over micro-batches: their size sets
    the memory and does not change the result.

    Returns:
        The norm parameters of the adapted backbone, and the layer on its features.
    """
    layer = Linear.zeros(classes, backbone.feature_dim, images.device)
    dtype = _precise(images.device)
    film = {
        name: (
            torch.ones_like(norm.weight, dtype=dtype),
            torch.zeros_like(norm.weight, dtype=dtype),
        )
        for name, norm in backbone.norm_layers().items()
    }
    learned = [t.requires_grad_() for pair in film.values() for t in pair]
    optimizer = torch.optim.Adam([layer.weight, layer.bias, *learned], lr=settings.lr)
    for _ in range(settings.steps):
        optimizer.zero_grad()
        batches = zip(images.split(micro_batch), labels.split(micro_batch), strict=True)
        for some_images, some_labels in batches:
            with cast():
                features = functional_call(backbone, _modulated(backbone, film), (some_images,))
            loss = F.cross_entropy(layer(features), some_labels, reduction="sum")
            (loss / len(images)).backward()
        optimizer.step()
    with torch.no_grad():
        return _modulated(backbone, film), layer.detach()


def _modulated(backbone: Backbone, film: Mapping[str, tuple[Tensor, Tensor]]) -> NormParameters:
    parameters: NormParameters = {}
    for name, norm in backbone.norm_layers().items():
        gamma, beta = (value.to(norm.weight.dtype) for value in film[name])
        parameters |= modulate(name, norm, gamma, beta)
    return parameters


def _precise(device: torch.device) -> torch.dtype:
    """The widest floats of a device; Apple's have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
