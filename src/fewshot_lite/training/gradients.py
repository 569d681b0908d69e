"""The sum of the gradients of a step's tasks, whichever ranks they were computed on.

Each task's gradient is added in float64 and the sum rounded to float32 once. The order in which
tasks are added still changes the float64 sum, by some 1e-16 of the largest that is added: far below
what float32 resolves (6e-8 of the sum), so the rounded sum is as good as always the same, and a run
on several ranks goes the way of a run on one. Added in float32 it would not: Adam divides small
gradients by their own size, rounding errors and all. (Apple's GPUs have no float64; there it does
depend on the order.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewshot_lite.core.ranks import Ranks


class GradientSum:
    """Collects the `.grad`s that tasks leave on a module, and puts their sum in their place."""

    def __init__(self, module: nn.Module) -> None:
        """Begin with no gradients.

        Args:
            module: whose parameters that require gradients are looked at.
        """
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._sums: dict[int, Tensor] = {}
        self._take()

    def add(self) -> None:
        """Take in the gradients of one task, and clear them for the next."""
        for position, gradient in self._take().items():
            if position in self._sums:
                self._sums[position].add_(gradient)
            else:
                self._sums[position] = gradient.to(_precise(gradient))

    def finish(self, ranks: Ranks) -> None:
        """Sum over all ranks, in one message, and leave the result in the `.grad`s.

        A parameter that has no gradient on any rank keeps none.
        """
        parameters = self._parameters
        present = torch.zeros(len(parameters))
        present[list(self._sums)] = 1
        positions = ranks.sum(present).nonzero().flatten().tolist()
        parts = [
            self._sums[position].flatten()
            if position in self._sums
            else torch.zeros(
                parameters[position].numel(),
                dtype=_precise(parameters[position]),
                device=parameters[position].device,
            )
            for position in positions
        ]
        if not parts:
            return
        total = ranks.sum(torch.cat(parts)) if ranks.size > 1 else None
        sizes = [parameters[position].numel() for position in positions]
        summed = parts if total is None else total.split(sizes)
        for position, value in zip(positions, summed, strict=True):
            parameter = parameters[position]
            parameter.grad = torch.empty_like(parameter).copy_(value.view_as(parameter))
        self._sums.clear()

    def _take(self) -> dict[int, Tensor]:
        """The gradients by parameter, which have none then."""
        found = {}
        for position, parameter in enumerate(self._parameters):
            if parameter.grad is not None:
                found[position] = parameter.grad.contiguous()
                parameter.grad = None
        return found


def _precise(tensor: Tensor) -> torch.dtype:
    """Apple's GPUs have no float64."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64
