"""Adam by torch's function: the first `torch.optim.Adam` imports torch's compiler, for seconds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """The state of Adam for some tensors, which it updates in place."""

    def __init__(self, values: list[Tensor], lr: float) -> None:
        self.values, self.lr = values, lr
        self.means = [torch.zeros_like(value) for value in values]
        self.squares = [torch.zeros_like(value) for value in values]
        self.steps = [torch.zeros(()) for _ in values]

    def step(self, gradients: Sequence[Tensor]) -> None:
        """Update the values in place, by Adam's usual β and ε."""
        adam(
            self.values,
            list(gradients),
            self.means,
            self.squares,
            [],
            self.steps,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.lr,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
