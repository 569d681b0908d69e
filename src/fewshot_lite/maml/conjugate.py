"""Conjugate gradients on a symmetric matrix that is known by its products with vectors alone.

Hestenes and Stiefel 1952; stopping where the matrix is not positive definite as Steihaug 1983 does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot_lite.maml.params import Params, add, dot, scaled

#: Directions along which pᵀAp is no more than this share of pᵀp count as flat.
_FLAT = 1e-12


@dataclass(frozen=True)
class Solution:
    """The outcome of conjugate gradients."""

    x: Params
    negative_curvature: Tensor
    """bool (): A is not positive definite, and x is from before the direction that shows it."""


def conjugate_gradient(multiply: Callable[[Params], Params], b: Params, steps: int) -> Solution:
    """x near A⁻¹ b after at most so many products.

    Where the first direction has no positive curvature x is b itself: for the matrix of iMAML,
    I + H/λ, what ignoring the inner loop gives. Written without branches, to run under vmap.
    """
    x = scaled(b, 0.0)
    residual, direction = b, b
    rho = dot(b, b)
    going = rho > 0
    negative = torch.zeros_like(going)
    for step in range(steps):
        product = multiply(direction)
        curvature = dot(direction, product)
        square = dot(direction, direction)
        bad = going & ~(curvature > _FLAT * square)
        negative = negative | bad
        if step == 0:
            x = {k: torch.where(bad, b[k], v) for k, v in x.items()}
        going = going & ~bad
        alpha = torch.where(going, rho / torch.where(going, curvature, 1), 0)
        x = add(x, direction, alpha)
        residual = add(residual, product, -alpha)
        after = dot(residual, residual)
        beta = torch.where(going, after / torch.where(rho > 0, rho, 1), 0)
        direction = add(residual, direction, beta)
        going = going & (after > torch.finfo(after.dtype).tiny)
        rho = after
    return Solution(x, negative)
