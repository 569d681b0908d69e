"""MAML and first-order MAML (Finn, Abbeel and Levine 2017).

Inner loop: φ_{t+1} = φ_t - α M_t ∇L̂(φ_t), T steps, M_t the parameters that step t updates. The
meta-gradient is v_0 of

    v_T = ∇L_test(φ_T),    v_t = v_{t+1} - α ∇²L̂(φ_t) M_t v_{t+1},

which is what back-propagation through the steps computes, one Hessian-vector product a step. Put
so, it keeps T sets of parameters rather than T graphs; and as each factor is linear in a mean over
the support images, estimating each from its own random subset leaves the expectation exact: LITE
for MAML. First-order MAML takes v_T.

Of learned rates α (Li et al. 2017, "Meta-SGD", one for each layer) the derivative needs nothing
more: ∂L_test/∂log α is the sum over t of v_{t+1}ᵀ (φ_{t+1} - φ_t), over the layer's parameters.
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

#: The logarithms of learned rates among the parameters, and their learning rate as a multiple.
_RATES, _RATES_LR = "log_rates", 10.0


class FirstOrderMaml(GradientLearner):
    """The inner loop's own derivative is left out: as if φ* moved along with φ⁰."""

    name: ClassVar[str] = "fomaml"
    log_rates: nn.Parameter | None

    def __init__(self, backbone: Backbone, *, layer_rates: bool = False, **shared: Any) -> None:
        """Assemble around a backbone.

        Args:
            backbone: used as it is, not copied.
            layer_rates: learn α, one for each layer that a pattern has digits for.
            shared: the rest of what `GradientLearner` takes; α begins at its `inner_lr`.

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
        """α: the one of all layers, or of each parameter that of its layer."""
        if _RATES not in params:
            return self.inner_lr
        of_layers = params[_RATES].exp()
        layers = enumerate(self.names_by_layer())
        return {name: of_layers[number] for number, names in layers for name in names}

    def solve(
        self, objective: Objective, start: Params, path: list[Params] | None = None
    ) -> Params:
        rates = self.rates(start)
        return gradient_descent(objective, start, self.updated_names(), rates, path=path)

    def pull_back(self, solved: Solved) -> tuple[Params, Tensor]:
        gradient = solved.gradient
        if solved.path:  # as if all steps were one
            gradient = gradient | self._of_rates(gradient, solved.path[0], solved.end)
        return gradient, _none(gradient)

    def _of_rates(self, v: Params, before: Params, after: Params) -> Params:
        """The share in ∂L_test/∂log α of the way between two points."""
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
    """Second order: the exact gradient through all inner steps."""

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
                v = add(v | self._of_rates(v, params, after), product, -1.0)
            after = params
        return v, _none(v)


def _none(gradient: Params) -> Tensor:
    device = next(iter(gradient.values())).device
    return torch.zeros((), dtype=torch.int64, device=device)
