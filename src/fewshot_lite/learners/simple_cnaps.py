"""Simple CNAPs (Bateni et al. 2020), the default learner."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from fewshot_lite.backbones import Backbone
from fewshot_lite.film import FilmGenerator, NormParameters
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.learners.base import Learner
from fewshot_lite.set_encoder import SetEncoder


class SimpleCnaps(Learner):
    """FiLM from the set encoder, then class means and covariances.

    The backbone's own weights are frozen unless `backbone_lr` is above 0; what is learned is how to
    modulate it for a task.
    """

    name: ClassVar[str] = "simple-cnaps"
    head: MahalanobisHead

    #: Temperature and β move faster than networks: a few hundred steps must be enough for them.
    HEAD_LR_FACTOR: ClassVar[float] = 20.0

    def __init__(
        self,
        backbone: Backbone,
        *,
        embedding_dim: int = 64,
        encoder_size: int = 48,
        backbone_lr: float = 0.0,
        root: bool = True,
    ) -> None:
        """Assemble around a backbone.

        Args:
            backbone: used as it is, not copied.
            embedding_dim: Z.
            encoder_size: side in pixels of the set encoder's images.
            backbone_lr: learning rate of the backbone's weights as a share of the learner's.
            root: whether the head measures in root features; False is the paper's.
        """
        super().__init__()
        self.backbone = backbone
        self.set_encoder = SetEncoder(embedding_dim, encoder_size)
        self.film = FilmGenerator(backbone, embedding_dim)
        self.head = MahalanobisHead(root=root)
        self.backbone_lr = backbone_lr
        for parameter in backbone.parameters():
            parameter.requires_grad_(backbone_lr > 0)
        self.eval()

    @property
    def has_set_encoder(self) -> bool:
        return True

    def embed(self, images: Tensor) -> Tensor:
        embedding: Tensor = self.set_encoder(images)
        return embedding

    def norm_parameters(self, z: Tensor | None) -> NormParameters:
        assert z is not None
        parameters: NormParameters = self.film(self.backbone, z)
        return parameters

    def penalty(self) -> Tensor:
        return self.film.penalty()

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        groups = [
            {"params": [*self.set_encoder.parameters(), *self.film.parameters()], "lr": lr},
            {"params": list(self.head.parameters()), "lr": lr * self.HEAD_LR_FACTOR},
        ]
        if self.backbone_lr > 0:
            learned = list(self.backbone.parameters())
            groups.append({"params": learned, "lr": lr * self.backbone_lr})
        return groups

    def hyperparameters(self) -> dict[str, Any]:
        return {
            "embedding_dim": self.set_encoder.embedding_dim,
            "encoder_size": self.set_encoder.image_size,
            "backbone_lr": self.backbone_lr,
            "root": self.head.root,
        }
