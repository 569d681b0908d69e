"""Fine-tuning to a task, the baseline of adaptation in one forward pass.

As in Bronskill et al. 2021, section 5.1, and the ORBIT code: 50 steps of Adam at 1e-3 on the whole
support set, a linear layer that starts at zero (`init_zeros`), the backbone's statistics fixed;
further γ and β of each norm layer (FiLM), or all of the backbone's weights. Nothing is random. With
a pattern (`maml.patterns`) only its layers are updated, and the stages below the lowest of them are
run once, not at each step.

Learned parameters are kept in float64. Adam divides a gradient by its own size: where the true
gradient is zero (the biases at the first step of a balanced task), rounding errors of float32 would
become steps of full length, and the size of micro-batches would change the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from fewshot_lite.core.errors import UsageError
from fewshot_lite.maml.patterns import Pattern
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.film import NormParameters, modulate
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.networks.stages import Staged


@dataclass(frozen=True)
class FineTuning:
    """The optimiser's settings."""

    steps: int = 50
    lr: float = 1e-3
    """Learning rate of Adam."""
    pattern: str | None = None
    """The layers to update, e.g. "00011"; None for all."""


class Linear(nn.Linear):
    """A linear layer that starts at zero and converts features (B, d) to its own type."""

    def __init__(self, width: int, classes: int, device: torch.device) -> None:
        super().__init__(width, classes, device=device, dtype=_widest_float(device))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.to(self.weight.dtype))


@torch.enable_grad()
def fine_tune_head(features: Tensor, labels: Tensor, classes: int, settings: FineTuning) -> Linear:
    """Fit a linear layer to support features (N, d) with labels (N,)."""
    layer = Linear(features.shape[1], classes, features.device)
    optimizer = torch.optim.Adam(layer.parameters(), lr=settings.lr)
    for _ in range(settings.steps):
        optimizer.zero_grad()
        F.cross_entropy(layer(features), labels).backward()
        optimizer.step()
    return layer.requires_grad_(False)


@dataclass(frozen=True)
class Updated:
    """The parameters that a pattern updates."""

    names: frozenset[str]
    """Parameters by their names in the backbone."""
    lowest: int
    """The first stage with any of them; the number of stages if there is none."""


def updated_by(pattern: str | None, backbone: Backbone) -> Updated:
    """Return the backbone's parameters that a pattern updates.

    Raises:
        UsageError: it does not fit, changes from step to step, or does not update the head.
    """
    staged = Staged(backbone)
    row = (True,) * len(staged.layers)
    if pattern is not None:
        if "," in pattern:
            raise UsageError(
                f"--pattern {pattern}: must be one row for fine-tuning, whose steps all update the "
                "same layers."
            )
        row = Pattern.parse(pattern, staged.layers, 1).rows[0]
    if not row[-1]:
        raise UsageError(
            f"--pattern {pattern}: must end in 1: fine-tuning's head starts at zero, and while it "
            "stays there nothing below it learns."
        )
    by_stage = staged.parameter_names()
    updated = [names if on else [] for on, names in zip(row, by_stage, strict=False)]
    lowest = next((number for number, names in enumerate(updated) if names), len(updated))
    flat = frozenset(name.removeprefix("backbone.") for names in updated for name in names)
    return Updated(flat, lowest)


#: The learned tensors below the head, and a function to the backbone's parameters made of them.
_Learned = tuple[list[Tensor], Callable[[], NormParameters]]


def fine_tune_film(
    backbone: Backbone,
    images: Tensor,
    labels: Tensor,
    classes: int,
    settings: FineTuning,
    *,
    passes: Passes,
    learn: Callable[[Backbone, frozenset[str], torch.dtype], _Learned] | None = None,
) -> tuple[NormParameters, Linear]:
    """Fit a linear layer and FiLM to support images (N, 3, S, S) with labels (N,).

    The loss is a sum over images, so its gradient is accumulated over micro-batches: their size
    determines the memory, not the result.

    Args:
        learn: makes the parameters to learn in place of FiLM's γ and β.

    Returns:
        The norm parameters of the adapted backbone, and the layer on its features.

    Raises:
        UsageError: as `updated_by`.
    """
    updated = updated_by(settings.pattern, backbone)
    learned, parameters = (learn or _film)(backbone, updated.names, _widest_float(images.device))
    support = _Support(backbone, images, labels, updated.lowest, passes)
    layer = Linear(backbone.feature_dim, classes, labels.device)
    with torch.enable_grad():
        optimizer = torch.optim.Adam([*layer.parameters(), *learned], lr=settings.lr)
        for _ in range(settings.steps):
            optimizer.zero_grad()
            support.backward(layer, parameters)
            optimizer.step()
    with torch.no_grad():
        return parameters(), layer.requires_grad_(False)


def fine_tune_weights(*args: Any, **options: Any) -> tuple[NormParameters, Linear]:
    """Fit a linear layer and the backbone's weights; see `fine_tune_film` for the parameters."""
    return fine_tune_film(*args, **options, learn=_weights)


def _film(backbone: Backbone, names: frozenset[str], dtype: torch.dtype) -> _Learned:
    norms = {n: m for n, m in backbone.norm_layers().items() if f"{n}.weight" in names}
    film = {
        name: (
            torch.ones_like(norm.weight, dtype=dtype, requires_grad=True),
            torch.zeros_like(norm.weight, dtype=dtype, requires_grad=True),
        )
        for name, norm in norms.items()
    }

    def modulated() -> NormParameters:
        parameters: NormParameters = {}
        for name, values in film.items():
            gamma, beta = (value.to(norms[name].weight.dtype) for value in values)
            parameters |= modulate(name, norms[name], gamma, beta)
        return parameters

    return [t for pair in film.values() for t in pair], modulated


def _weights(backbone: Backbone, names: frozenset[str], dtype: torch.dtype) -> _Learned:
    weights = {n: value for n, value in backbone.named_parameters() if n in names}
    learned = {n: v.detach().clone().to(dtype).requires_grad_() for n, v in weights.items()}
    return list(learned.values()), lambda: {n: v.to(weights[n].dtype) for n, v in learned.items()}


class _Support:
    """A support set, with the output of the stages below `lowest` for it."""

    def __init__(
        self,
        backbone: Backbone,
        images: Tensor,
        labels: Tensor,
        lowest: int,
        passes: Passes,
    ) -> None:
        self.backbone, self.labels = backbone, labels
        self._lowest, self._passes = lowest, passes
        self._staged = Staged(backbone)
        self._below = images if lowest == 0 else passes.map(self._lower, images)

    @torch.no_grad()
    def _lower(self, images: Tensor) -> Tensor:
        below: Tensor = self._staged(self.backbone.prepared(images), 0, self._lowest)
        return below

    def backward(self, layer: Linear, parameters: Callable[[], NormParameters]) -> None:
        """Add the gradient of the mean loss to the `.grad`s, micro-batch by micro-batch."""
        for x, labels in self._passes.split(self._below, self.labels):
            with self._passes.cast():
                features = self._features(x, parameters())
            loss = F.cross_entropy(layer(features), labels, reduction="sum")
            (loss / len(self.labels)).backward()

    def _features(self, x: Tensor, parameters: NormParameters) -> Tensor:
        """Return features (B, d) of a micro-batch of `_below`."""
        features: Tensor
        if self._lowest == 0:
            features = functional_call(self.backbone, parameters, (x,))
        else:
            named = {f"backbone.{name}": value for name, value in parameters.items()}
            features = functional_call(self._staged, named, (x, self._lowest))
        return features


def _widest_float(device: torch.device) -> torch.dtype:
    """Return the widest floating-point type of a device; Apple's have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
