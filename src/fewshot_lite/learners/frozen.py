"""A head on a pre-trained backbone, without meta-learning (FiLM is the identity)."""

from __future__ import annotations

from typing import Any, ClassVar

from fewshot_lite.heads.base import Head
from fewshot_lite.heads.registry import make_head
from fewshot_lite.learners.base import Learner
from fewshot_lite.networks.backbone import Backbone


class Frozen(Learner):
    """A pre-trained network, e.g. on ImageNet, of which only the head adapts."""

    name: ClassVar[str] = "frozen"

    def __init__(self, backbone: Backbone, *, head: Head | dict[str, Any]) -> None:
        """Build around a backbone, without copying it.

        Args:
            backbone: the backbone.
            head: the head, or its `Head.describe()`.
        """
        super().__init__(backbone, backbone_lr=0.0)
        self.head = make_head(head) if isinstance(head, dict) else head
        self.eval()

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        return [{"name": "head", "params": list(self.head.parameters()), "lr": lr}]

    def hyperparameters(self) -> dict[str, Any]:
        return {"head": self.head.describe()}
