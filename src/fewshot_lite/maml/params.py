"""Arithmetic on dictionaries of tensors: what a network's parameters and their gradients are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

#: Parameter names to values, or to whatever has the shape of the values: gradients, directions.
Params = dict[str, Tensor]
#: One number, or one for each of the parameters.
Factor = Tensor | float | Mapping[str, Tensor]


def add(a: Mapping[str, Tensor], b: Mapping[str, Tensor], factor: Tensor | float = 1.0) -> Params:
    """a + factor · b, where b may lack some of a's names."""
    return {k: v + factor * b[k] if k in b else v for k, v in a.items()}


def dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    """aᵀb over all tensors, ()."""
    return torch.stack([(a[k] * b[k]).sum() for k in a]).sum()


def scaled(a: Mapping[str, Tensor], factor: Factor) -> Params:
    """factor · a."""
    if isinstance(factor, Mapping):
        return {k: factor[k] * v for k, v in a.items()}
    return {k: factor * v for k, v in a.items()}


def only(a: Mapping[str, Tensor], names: tuple[str, ...]) -> Params:
    """The entries of these names."""
    return {k: a[k] for k in names}
