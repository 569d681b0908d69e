"""Arithmetic on dictionaries of tensors, such as parameters and gradients."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

#: Values, gradients or directions by the names of parameters.
Params = dict[str, Tensor]
#: One number, or one for each parameter.
Factor = Tensor | float | Mapping[str, Tensor]


def add(a: Mapping[str, Tensor], b: Mapping[str, Tensor], factor: Tensor | float = 1.0) -> Params:
    """Return a + factor · b; b may lack some of a's names."""
    return {k: v + factor * b[k] if k in b else v for k, v in a.items()}


def dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    """Return aᵀb over all tensors, ()."""
    return torch.stack([(a[k] * b[k]).sum() for k in a]).sum()


def scaled(a: Mapping[str, Tensor], factor: Factor) -> Params:
    """Return factor · a."""
    if isinstance(factor, Mapping):
        return {k: factor[k] * v for k, v in a.items()}
    return {k: factor * v for k, v in a.items()}


def only(a: Mapping[str, Tensor], names: tuple[str, ...]) -> Params:
    """Return the entries of these names."""
    return {k: a[k] for k in names}
