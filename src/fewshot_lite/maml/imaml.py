"""iMAML: meta-gradients from the inner problem's solution alone (Rajeswaran et al. 2019).

Inner problem (equation 3): φ* = argmin L̂(φ) + (λ/2) ‖φ - φ⁰‖². The derivative of its solution
follows from the implicit function theorem (`maml.implicit`): it does not depend on how φ* was
found, and the path is not kept. This is the formula of the paper; the published code departs from
it (inner steps without the proximal term, another matrix).
"""

from __future__ import annotations

from typing import Any, ClassVar, get_args

from torch import Tensor

from fewshot_lite.core.config import MOST_INNER_STEPS, Curvature, InnerSolver
from fewshot_lite.core.errors import UsageError
from fewshot_lite.maml.descent import gradient_descent, hessian_free
from fewshot_lite.maml.gradient_learner import GradientLearner, Solved
from fewshot_lite.maml.implicit import implicit_gradient
from fewshot_lite.maml.objective import Objective
from fewshot_lite.maml.params import Params
from fewshot_lite.networks.backbone import Backbone


class ImplicitMaml(GradientLearner):
    """iMAML; the larger λ, the closer adaptation stays to the start."""

    name: ClassVar[str] = "imaml"

    def __init__(
        self,
        backbone: Backbone,
        *,
        inner_steps: int = 16,
        lam: float = 2.0,
        cg_steps: int = 5,
        inner_solver: InnerSolver = "gd",
        curvature: Curvature = "hessian",
        **shared: Any,
    ) -> None:
        """Assemble the learner around a backbone.

        Args:
            backbone: used as it is, not copied.
            inner_steps: T.
            lam: λ.
            cg_steps: steps of conjugate gradients, for the meta-gradient and each Newton step.
            inner_solver: "gd", or "hessian-free": Newton steps with a line search, which do not use
                `inner_lr`.
            curvature: the matrix of conjugate gradients, in Newton steps too: the Hessian of L̂, or
                the Gauss-Newton matrix, which is never indefinite.
            shared: the other arguments of `GradientLearner`.

        Raises:
            ValueError: as `GradientLearner`; also for invalid values of these arguments.
            UsageError: as `GradientLearner`; also for a pattern that changes from step to step:
                there is one inner problem, over one set of layers.
        """
        if not isinstance(cg_steps, int) or not 1 <= cg_steps <= MOST_INNER_STEPS:
            raise ValueError(f"cg_steps {cg_steps!r}")
        if not isinstance(lam, int | float) or not 0 < lam <= 1e9:
            raise ValueError(f"lam {lam!r}")
        if curvature not in get_args(Curvature):
            raise ValueError(f"curvature {curvature!r}")
        if inner_solver not in get_args(InnerSolver):
            raise ValueError(f"inner_solver {inner_solver!r}")
        self.lam, self.cg_steps = lam, cg_steps
        self.inner_solver, self.curvature = inner_solver, curvature
        super().__init__(backbone, inner_steps=inner_steps, **shared)

    def set_pattern(self, text: str | None) -> None:
        super().set_pattern(text)
        if not self.pattern.constant:
            raise UsageError(
                f"--pattern {text}: must be one row for imaml, whose inner problem is over one set "
                "of layers."
            )

    def solve(
        self, objective: Objective, start: Params, path: list[Params] | None = None
    ) -> Params:
        names = self.updated_names()
        if self.inner_solver == "hessian-free":
            return hessian_free(
                objective,
                start,
                names[0],
                self.inner_steps,
                proximal=self.lam,
                cg_steps=self.cg_steps,
                curvature=self.curvature,
            )
        return gradient_descent(
            objective, start, names, self.inner_lr, proximal=self.lam, path=path
        )

    def pull_back(self, solved: Solved) -> tuple[Params, Tensor]:
        return implicit_gradient(
            solved.objective,
            solved.end,
            solved.gradient,
            self.updated_names()[0],
            lam=self.lam,
            cg_steps=self.cg_steps,
            curvature=self.curvature,
        )

    def hyperparameters(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("lam", "cg_steps", "inner_solver")}
        if self.curvature != "hessian":  # older files have no such entry
            own["curvature"] = self.curvature
        return {**super().hyperparameters(), **own}
