"""Modules built without drawing random weights, which are loaded next."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode


class Uninitialised(TorchFunctionMode):
    """While it is entered, modules are built without drawing weights.

    On the "meta" device, where nothing can be drawn, torch would import its compiler to do so.
    """

    _DRAWS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Leave out what draws; do all else."""
        return args[0] if func in self._DRAWS else func(*args, **(kwargs or {}))
