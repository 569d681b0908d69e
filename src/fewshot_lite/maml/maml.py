"""MAML and first-order MAML (Finn, Abbeel and Levine 2017).

Inner loop: φ_{t+1} = φ_t - α M_t ∇L̂(φ_t), T steps, M_t the parameters that step t updates. The
meta-gradient is v_0 of

    v_T = ∇L_test(φ_T),    v_t = v_{t+1} - α ∇²L̂(φ_t) M_t v_{t+1},

which is what back-propagation through the steps computes, one Hessian-vector product a step. This
form keeps T sets of parameters rather than T graphs; and as each factor is linear in a mean over
the support images, estimating each from its own random subset leaves the expectation exact: LITE
for MAML. First-order MAML takes v_T.

The derivative in learned rates α (Li et al. 2017, "Meta-SGD"; here one for each layer) comes for
free: ∂L_test/∂log α is the sum over t of v_{t+1}ᵀ (φ_{t+1} - φ_t), over the layer's parameters.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fewshot_lite.maml.descent import gradient_descent
from fewshot_lite.maml.gradient_learner import GradientLearner, Solved
from fewshot_lite.maml.objective import Objective
from fewshot_lite.maml.params import Factor, Params, add, only, scaled
from fewshot_lite.networks.backbone import Backbone

#: The parameter with the logarithms of learned rates, and the factor on its learning rate.
_RATES, _RATES_LR = "log_rates", 10.0


class FirstOrderMaml(GradientLearner):
    """First-order MAML: the derivative of the inner loop is ignored, as if φ* moved with φ⁰."""

    name: ClassVar[str] = "fomaml"
    log_rates: nn.Parameter | None

    def __init__(self, backbone: Backbone, *, layer_rates: bool = False, **shared: Any) -> None:
        """Assemble the learner around a backbone.

        Args:
            backbone: used as it is, not copied.
            layer_rates: learn α, one for each layer of a pattern.
            shared: the other arguments of `GradientLearner`; α starts at its `inner_lr`.

        Raises:
            UsageError, ValueError: as `GradientLearner`.
        """
        super().__init__(backbone, **shared)
        self.register_parameter("log_rates", None)
        if layer_rates:
            start = torch.full((len(self.layers),), math.log(self.inner_lr))
            self.log_rates = nn.Parameter(start)

    @property
    def needs_path(self) -> bool:
        return self.log_rates is not None

    def rates(self, params: Params) -> Factor:
        """Return α: one for all layers, or that of its layer for each parameter."""
        if _RATES not in params:
            return self.inner_lr
        layers = zip(params[_RATES].exp(), self.names_by_layer(), strict=True)
        return {name: rate for rate, names in layers for name in names}

    def solve(
        self, objective: Objective, start: Params, path: list[Params] | None = None
    ) -> Params:
        rates = self.rates(start)
        return gradient_descent(objective, start, self.updated_names(), rates, path=path)

    def pull_back(self, solved: Solved) -> tuple[Params, Tensor]:
        gradient = solved.gradient
        if solved.path:  # as if all steps were one
            gradient = gradient | self._add_to_rates(gradient, solved.path[0], solved.end)
        return gradient, _zero_like(gradient)

    def _add_to_rates(self, v: Params, before: Params, after: Params) -> Params:
        """Add the term of the step from `before` to `after` to ∂L_test/∂log α in v."""
        if _RATES not in v:
            return {}
        zero = v[_RATES].new_zeros(())
        parts = [
            sum(((v[k] * (after[k] - before[k])).sum() for k in names), zero)
            for names in self.names_by_layer()
        ]
        return {_RATES: v[_RATES] + torch.stack(parts)}

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        groups = super().parameter_groups(lr)
        if self.log_rates is not None:
            groups.append({"name": "rates", "params": [self.log_rates], "lr": _RATES_LR * lr})
        return groups

    def hyperparameters(self) -> dict[str, Any]:
        own = {"layer_rates": True} if self.log_rates is not None else {}
        return {**super().hyperparameters(), **own}


class Maml(FirstOrderMaml):
    """MAML: the exact gradient through all inner steps."""

    name: ClassVar[str] = "maml"

    @property
    def needs_path(self) -> bool:
        return True

    def pull_back(self, solved: Solved) -> tuple[Params, Tensor]:
        v, after, rates = solved.gradient, solved.end, self.rates(solved.end)
        steps = zip(reversed(solved.path), reversed(self.updated_names()), strict=True)
        for params, updated in steps:
            if updated:
                direction = scaled(only(v, updated), rates)
                chosen = solved.draw()
                product = solved.objective.hessian_product(params, direction, tuple(v), chosen)
                v = add(v | self._add_to_rates(v, params, after), product, -1.0)
            after = params
        return v, _zero_like(v)


def _zero_like(gradient: Params) -> Tensor:
    device = next(iter(gradient.values())).device
    return torch.zeros((), dtype=torch.int64, device=device)
