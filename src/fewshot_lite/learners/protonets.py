"""ProtoNets (Snell et al. 2017): class means on a backbone that is learned through LITE."""

from __future__ import annotations

from typing import Any, ClassVar

from fewshot_lite.core.config import Metric
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.learners.base import Learner
from fewshot_lite.networks.backbone import Backbone


class ProtoNets(Learner):
    """Adapts only the class means; meta-training learns the whole backbone."""

    name: ClassVar[str] = "protonets"
    head: PrototypeHead

    def __init__(
        self, backbone: Backbone, *, metric: Metric = "euclidean", backbone_lr: float = 0.05
    ) -> None:
        """Build around a backbone.

        Args:
            backbone: used without copying it.
            metric: distance to the class means.
            backbone_lr: learning rate of the backbone's weights as a share of the learner's.
        """
        super().__init__(backbone, backbone_lr)
        self.head = PrototypeHead(metric)
        self.eval()

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        head = {"name": "head", "params": list(self.head.parameters()), "lr": lr * 20}
        return [head, *self.backbone_groups(lr)]

    def hyperparameters(self) -> dict[str, Any]:
        return {"metric": self.head.metric, "backbone_lr": self.backbone_lr}
