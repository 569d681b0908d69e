"""The implicit meta-gradient of Rajeswaran et al. 2019, lemma 1 and algorithm 2.

Where the gradient of the inner problem L̂(φ) + (λ/2) ‖φ - φ⁰‖² vanishes,

    ∂L_test/∂φ⁰ = (I + ∇²L̂(φ*)/λ)⁻¹ ∇L_test(φ*) = x,

solved by conjugate gradients. For parameters ψ that are learned but not adapted, L̂ and L_test
depend on them too, and ∂L_test/∂ψ = ∇_ψ L_test(φ*) - (1/λ) ∂²L̂/∂ψ∂φ x.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot_lite.core.config import Curvature
from fewshot_lite.maml.conjugate import conjugate_gradient
from fewshot_lite.maml.objective import Objective
from fewshot_lite.maml.params import Params, add, only


def implicit_gradient(
    objective: Objective,
    end: Params,
    gradient: Params,
    updated: tuple[str, ...],
    *,
    lam: float,
    cg_steps: int,
    curvature: Curvature = "hessian",
) -> tuple[Params, Tensor]:
    """Return ∂L_test/∂φ⁰ and ∂L_test/∂ψ.

    Args:
        objective: L̂.
        end: φ* and ψ.
        gradient: ∂L_test at `end`, over all of them.
        updated: the names of φ.
        lam: λ.
        cg_steps: products with the Hessian.
        curvature: the matrix that stands for ∇²L̂ and ∂²L̂/∂ψ∂φ.

    Returns:
        The gradient, by name, and int64 (): 1 if conjugate gradients stopped at negative curvature.
    """
    if not updated:
        device = next(iter(gradient.values())).device
        return gradient, torch.zeros((), dtype=torch.int64, device=device)

    def multiply(p: Params) -> Params:
        return add(p, objective.product(curvature, end, p, updated), 1 / lam)

    solution = conjugate_gradient(multiply, only(gradient, updated), cg_steps)
    result = dict(gradient) | solution.x
    others = [name for name in gradient if name not in solution.x]
    if others:
        mixed = objective.product(curvature, end, solution.x, tuple(gradient))
        result |= {name: gradient[name] - mixed[name] / lam for name in others}
    return result, solution.negative_curvature.long()
