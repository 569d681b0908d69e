"""MAML and first-order MAML (Finn, Abbeel and Levine 2017).

Inner loop: φ_{t+1} = φ_t - α M_t ∇L̂(φ_t), T steps, M_t the parameters that step t updates. The
meta-gradient is v_0 of

    v_T = ∇L_test(φ_T),    v_t = v_{t+1} - α ∇²L̂(φ_t) M_t v_{t+1},

which is what back-propagation through the steps computes, one Hessian-vector product a step. Put
so, it keeps T sets of parameters rather than T graphs; and as each factor is linear in a mean over
the support images, estimating each from its own random subset leaves the expectation exact: LITE
for MAML. First-order MAML takes v_T.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from fewshot_lite.lite.sampling import Chosen
from fewshot_lite.maml.descent import gradient_descent
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.objective import Objective
from fewshot_lite.maml.params import Params, add, only


class FirstOrderMaml(GradientLearner):
    """The inner loop's own derivative is left out: as if φ* moved along with φ⁰."""

    name: ClassVar[str] = "fomaml"

    def solve(
        self, objective: Objective, start: Params, path: list[Params] | None = None
    ) -> Params:
        return gradient_descent(objective, start, self.updated_names(), self.inner_lr, path=path)

    def pull_back(
        self,
        objective: Objective,
        path: list[Params],
        end: Params,
        gradient: Params,
        draw: Callable[[], Chosen | None],
    ) -> tuple[Params, Tensor]:
        return gradient, _none(gradient)


class Maml(FirstOrderMaml):
    """Second order: the exact gradient through all inner steps."""

    name: ClassVar[str] = "maml"

    @property
    def needs_path(self) -> bool:
        return True

    def pull_back(
        self,
        objective: Objective,
        path: list[Params],
        end: Params,
        gradient: Params,
        draw: Callable[[], Chosen | None],
    ) -> tuple[Params, Tensor]:
        v = gradient
        for params, updated in zip(reversed(path), reversed(self.updated_names()), strict=True):
            if updated:
                product = objective.hessian_product(params, only(v, updated), tuple(v), draw())
                v = add(v, product, -self.inner_lr)
        return v, _none(gradient)


def _none(gradient: Params) -> Tensor:
    device = next(iter(gradient.values())).device
    return torch.zeros((), dtype=torch.int64, device=device)
