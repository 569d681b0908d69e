"""Inner loops: minimise L̂(φ) + (λ/2) ‖φ - φ⁰‖² from the start φ⁰."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fewshot_lite.core.config import Curvature
from fewshot_lite.maml.conjugate import conjugate_gradient
from fewshot_lite.maml.objective import Objective
from fewshot_lite.maml.params import Factor, Params, add, dot, scaled

#: The most halvings of a step in a line search.
_MOST_HALVINGS = 10
#: The share of the linear decrease that a step must achieve (Armijo).
_ARMIJO = 1e-4


def gradient_descent(
    objective: Objective,
    start: Mapping[str, Tensor],
    names: Sequence[tuple[str, ...]],
    rate: Factor,
    *,
    proximal: float = 0.0,
    path: list[Params] | None = None,
) -> Params:
    """Take one step of gradient descent for each entry of `names`.

    Args:
        objective: L̂.
        start: φ⁰, all parameters.
        names: the parameters that each step updates.
        rate: α.
        proximal: λ.
        path: a list that φ before each step is appended to; only this grows with the steps.

    Returns:
        φ, all parameters.
    """
    params = dict(start)
    for updated in names:
        if path is not None:
            path.append(params)
        if not updated:
            continue
        gradient, _ = objective.gradient(params, updated)
        if proximal:
            offset = {k: params[k] - start[k] for k in updated}
            gradient = add(gradient, offset, proximal)
        params = add(params, scaled(gradient, rate), -1.0)
    return params


def hessian_free(
    objective: Objective,
    start: Mapping[str, Tensor],
    names: tuple[str, ...],
    steps: int,
    *,
    proximal: float,
    cg_steps: int,
    curvature: Curvature = "hessian",
) -> Params:
    """Take Newton steps by conjugate gradients, each with a line search (Martens 2010; iMAML-HF).

    `curvature` is the matrix that is inverted, and `cg_steps` are those of a Newton step; the other
    arguments are those of `gradient_descent`. A step that does not lower the objective ends the
    loop.
    """
    params = dict(start)
    if not names:
        return params
    for _ in range(steps):
        gradient, loss = objective.gradient(params, names)
        offset = {k: params[k] - start[k] for k in names}
        gradient = add(gradient, offset, proximal)
        value = loss + proximal / 2 * dot(offset, offset)

        def multiply(p: Params, params: Params = params) -> Params:
            return add(objective.product(curvature, params, p, names), p, proximal)

        direction = conjugate_gradient(multiply, gradient, cg_steps).x  # uphill
        slope = -dot(gradient, direction)
        step = 1.0
        for _ in range(_MOST_HALVINGS):
            tried = add(params, direction, -step)
            offset = {k: tried[k] - start[k] for k in names}
            after = objective.value(tried) + proximal / 2 * dot(offset, offset)
            if bool(after <= value + _ARMIJO * step * slope):
                break
            step /= 2
        else:
            return params
        params = tried
        if float(torch.sqrt(dot(gradient, gradient))) < 1e-10:
            return params
    return params
