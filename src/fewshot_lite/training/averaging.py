"""Weights other than the last ones: their average over the run, and the best by validation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn


class AveragedWeights:
    """Exponential average of a module's learned parameters (Polyak & Juditsky 1992).

    The decay grows to its full value over the first updates, min(decay, (1 + n) / (10 + n)), so
    that the first weights do not weigh on a short run.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Begin with the weights as they are.

        Args:
            module: of which the parameters that require gradients are averaged.
            decay: share of the average that stays at an update, in (0, 1).
        """
        self._module, self._decay = module, decay
        self.updates = 0
        self.tensors = {name: p.detach().clone() for name, p in _learned(module)}
        """By the parameters' names."""

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, parameter in _learned(self._module):
            self.tensors[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Go on from an average that was kept.

        Raises:
            KeyError, RuntimeError: it is of another module.
        """
        for name, average in self.tensors.items():
            average.copy_(tensors[name])
        self.updates = updates


@contextlib.contextmanager
def using(
    module: nn.Module, tensors: Mapping[str, Tensor], after: Callable[[], None] | None = None
) -> Iterator[None]:
    """A module with other weights, and at the end exactly as it was.

    Args:
        tensors: some or all of its state dict.
        after: called with them in place, e.g. to take constants anew that depend on them.
    """
    before = snapshot(module)
    state = module.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
    try:
        if after is not None:
            after()
        yield
    finally:
        with torch.no_grad():
            for name, tensor in before.items():
                state[name].copy_(tensor)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's state dict."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _learned(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in module.named_parameters() if p.requires_grad]
