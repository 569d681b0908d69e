"""What CNAPs and Simple CNAPs share: FiLM from a set encoder. They differ in their heads."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from fewshot_lite.core.errors import UsageError
from fewshot_lite.learners.base import Learner
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.film import FilmGenerator, NormParameters
from fewshot_lite.networks.set_encoder import SetEncoder


class FilmLearner(Learner):
    """A backbone modulated for a task through its norm layers.

    The backbone's own weights are frozen unless `backbone_lr` is above 0; what is learned is how to
    modulate it.
    """

    #: Learning rate of the head as a multiple of the learner's.
    head_lr: ClassVar[float] = 1.0

    def __init__(
        self,
        backbone: Backbone,
        *,
        embedding_dim: int = 64,
        encoder_size: int = 48,
        backbone_lr: float = 0.0,
    ) -> None:
        """Assemble around a backbone; the subclass adds its head.

        Args:
            backbone: used as it is, not copied.
            embedding_dim: Z.
            encoder_size: side in pixels of the set encoder's images.
            backbone_lr: learning rate of the backbone's weights as a share of the learner's.

        Raises:
            UsageError: FiLM has no norm layer to act through, or one without a bias.
        """
        super().__init__(backbone, backbone_lr)
        _check_norm_layers(backbone)
        self.set_encoder = SetEncoder(embedding_dim, encoder_size)
        self.film = FilmGenerator(backbone, embedding_dim)

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
        return [
            {"name": "set-encoder", "params": list(self.set_encoder.parameters()), "lr": lr},
            {"name": "film", "params": list(self.film.parameters()), "lr": lr},
            {"name": "head", "params": list(self.head.parameters()), "lr": lr * self.head_lr},
            *self.backbone_groups(lr),
        ]

    def hyperparameters(self) -> dict[str, Any]:
        return {
            "embedding_dim": self.set_encoder.embedding_dim,
            "encoder_size": self.set_encoder.image_size,
            "backbone_lr": self.backbone_lr,
        }


def _check_norm_layers(backbone: Backbone) -> None:
    layers = backbone.norm_layers()
    if not layers:
        raise UsageError(
            "backbone: has no normalisation layers, so FiLM has nothing to adapt. Choose one with "
            "BatchNorm or LayerNorm, or ProtoNets, which adapts class means alone."
        )
    for name, layer in layers.items():
        if layer.bias is None:
            raise UsageError(
                f"backbone: norm layer {name!r} has no bias, which FiLM needs for its shift. "
                "Build it with bias=True."
            )
