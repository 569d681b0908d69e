"""CNAPs (Requeima et al. 2019): FiLM and a generated linear head."""

from __future__ import annotations

from typing import Any, ClassVar

from fewshot_lite.heads.generated import GeneratedLinearHead
from fewshot_lite.learners.film_learner import FilmLearner
from fewshot_lite.networks.backbone import Backbone


class Cnaps(FilmLearner):
    """FiLM from the set encoder, then a linear layer generated from class means."""

    name: ClassVar[str] = "cnaps"
    head: GeneratedLinearHead

    def __init__(self, backbone: Backbone, *, fixed_temperature: bool = False, **film: Any) -> None:
        """Build around a backbone.

        Args:
            backbone: used without copying it.
            fixed_temperature: do not learn a temperature, as published.
            film: arguments of `FilmLearner`.
        """
        super().__init__(backbone, **film)
        self.head = GeneratedLinearHead(backbone.feature_dim, fixed_temperature=fixed_temperature)
        self.eval()

    def hyperparameters(self) -> dict[str, Any]:
        return {**super().hyperparameters(), "fixed_temperature": self.head.fixed_temperature}
