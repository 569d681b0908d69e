"""Simple CNAPs (Bateni et al. 2020), the default learner."""

from __future__ import annotations

from typing import Any, ClassVar

from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.learners.film_learner import FilmLearner
from fewshot_lite.networks.backbone import Backbone


class SimpleCnaps(FilmLearner):
    """FiLM from the set encoder, then class means and covariances."""

    name: ClassVar[str] = "simple-cnaps"
    head: MahalanobisHead
    #: Temperature and β need a higher rate than networks, to be learned in a few hundred steps.
    head_lr: ClassVar[float] = 20.0

    def __init__(
        self,
        backbone: Backbone,
        *,
        root: bool = True,
        fixed_temperature: bool = False,
        **film: Any,
    ) -> None:
        """Build around a backbone.

        Args:
            backbone: used without copying it.
            root: let the head measure in signed square roots of features; the paper does not.
            fixed_temperature: learn neither temperature nor β, as in the paper.
            film: arguments of `FilmLearner`.
        """
        super().__init__(backbone, **film)
        self.head = MahalanobisHead(root=root, fixed_temperature=fixed_temperature)
        self.eval()

    def hyperparameters(self) -> dict[str, Any]:
        return {**super().hyperparameters(), **self.head.options()}
