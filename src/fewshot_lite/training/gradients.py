"""Sum the gradients of a step's tasks over all ranks, reproducibly.

Gradients are added in float64, and the sum is rounded to float32 once. The order of addition
changes the float64 sum by some 1e-16 of the largest term, far below float32's resolution (6e-8 of
the sum), so the rounded sum is practically always the same, and a run on several ranks equals a run
on one. With float32 sums it would not, as Adam divides small gradients, rounding errors included,
by their own size. (Apple's GPUs have no float64; there the order matters.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewshot_lite.core.ranks import Ranks


class GradientSum:
    """Accumulates the `.grad`s of a module's parameters over tasks, and writes their sum back."""

    def __init__(self, module: nn.Module) -> None:
        """Clear the gradients of the parameters that require them."""
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._sums: dict[int, Tensor] = {}
        self._take()

    def add(self) -> None:
        """Add the gradients of one task, and clear them for the next."""
        for position, gradient in self._take().items():
            if position in self._sums:
                self._sums[position].add_(gradient)
            else:
                self._sums[position] = gradient.to(_sum_dtype(gradient))

    def finish(self, ranks: Ranks) -> None:
        """Sum over all ranks in one message, and write the result to the `.grad`s.

        A parameter without a gradient on any rank keeps none.
        """
        parameters = self._parameters
        present = torch.zeros(len(parameters))
        present[list(self._sums)] = 1
        positions = ranks.sum(present).nonzero().flatten().tolist()
        if not positions:
            return
        for position in positions:
            if position not in self._sums:
                parameter = parameters[position].detach()
                self._sums[position] = torch.zeros_like(parameter, dtype=_sum_dtype(parameter))
        parts = [self._sums[position].flatten() for position in positions]
        if ranks.size > 1:
            parts = list(ranks.sum(torch.cat(parts)).split([len(part) for part in parts]))
        for position, value in zip(positions, parts, strict=True):
            parameter = parameters[position]
            parameter.grad = torch.empty_like(parameter).copy_(value.view_as(parameter))
        self._sums.clear()

    def _take(self) -> dict[int, Tensor]:
        """Return the gradients by the parameters' positions, and clear them."""
        gradients = {}
        for position, parameter in enumerate(self._parameters):
            if parameter.grad is not None:
                gradients[position] = parameter.grad.contiguous()
                parameter.grad = None
        return gradients


def _sum_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64
