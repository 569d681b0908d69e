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
    #: Temperature and β move faster than networks: a few hundred steps must be enough for them.
    head_lr: ClassVar[float] = 20.0

    def __init__(
        self,
        backbone: Backbone,
        *,
        root: bool = True,
        fixed_temperature: bool = False,
        **film: Any,
    ) -> None:
        """Assemble around a backbone.

        Args:
            backbone: used as it is, not copied.
            root: whether the head measures in root features; False is the paper's.
            fixed_temperature: whether the head learns neither temperature nor β, as in the paper.
            film: as `FilmLearner` takes.
        """
        super().__init__(backbone, **film)
        self.head = MahalanobisHead(root=root, fixed_temperature=fixed_temperature)
        self.eval()

    def hyperparameters(self) -> dict[str, Any]:
        return {**super().hyperparameters(), **self.head.options()}
