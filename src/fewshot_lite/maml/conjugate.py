"""Conjugate gradients on a symmetric matrix, given by its products with vectors.

Hestenes and Stiefel 1952; it stops at negative curvature, like Steihaug 1983.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot_lite.maml.params import Params, add, dot, scaled

#: Directions along which pᵀAp is at most this share of pᵀp count as flat.
_FLAT = 1e-12


@dataclass(frozen=True)
class Solution:
    """The outcome of conjugate gradients."""

    x: Params
    negative_curvature: Tensor
    """bool (): A is not positive definite, and x is that before the direction that showed it."""


def conjugate_gradient(multiply: Callable[[Params], Params], b: Params, steps: int) -> Solution:
    """Approximate x = A⁻¹ b by at most `steps` products.

    If the first direction has no positive curvature, x is b itself: for the matrix of iMAML,
    I + H/λ, that is ignoring the inner loop. There are no branches, so it runs under vmap.
    """
    x = scaled(b, 0.0)
    residual, direction = b, b
    rho = dot(b, b)
    active = rho > 0
    negative = torch.zeros_like(active)
    for step in range(steps):
        product = multiply(direction)
        curvature = dot(direction, product)
        square = dot(direction, direction)
        flat = active & ~(curvature > _FLAT * square)
        negative = negative | flat
        if step == 0:
            x = {k: torch.where(flat, b[k], v) for k, v in x.items()}
        active = active & ~flat
        alpha = torch.where(active, rho / torch.where(active, curvature, 1), 0)
        x = add(x, direction, alpha)
        residual = add(residual, product, -alpha)
        rho_after = dot(residual, residual)
        beta = torch.where(active, rho_after / torch.where(rho > 0, rho, 1), 0)
        direction = add(residual, direction, beta)
        active = active & (rho_after > torch.finfo(rho_after.dtype).tiny)
        rho = rho_after
    return Solution(x, negative)
