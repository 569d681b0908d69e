"""FiLM from a set encoder, the common part of CNAPs and Simple CNAPs; their heads differ."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, get_args

from torch import Tensor, nn

from fewshot_lite.core.config import FilmLayers
from fewshot_lite.core.errors import UsageError
from fewshot_lite.learners.base import Learner
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.film import FilmGenerator, NormParameters, modulated_layers
from fewshot_lite.networks.set_encoder import MapEncoder, SetEncoder
from fewshot_lite.networks.stages import Staged


class FilmLearner(Learner):
    """A learner that modulates the norm layers of a backbone for each task.

    It learns the modulation; the backbone's weights are frozen unless `backbone_lr` is above 0.
    """

    #: Learning rate of the head as a multiple of the learner's.
    head_lr: ClassVar[float] = 1.0

    def __init__(
        self,
        backbone: Backbone,
        *,
        embedding_dim: int = 64,
        hidden_dim: int | None = None,
        encoder_size: int = 48,
        film_stages: int | None = None,
        backbone_lr: float = 0.0,
        film_layers: FilmLayers = "all",
    ) -> None:
        """Build around a backbone; the subclass adds its head.

        Args:
            backbone: used without copying it.
            embedding_dim: Z.
            hidden_dim: hidden width of FiLM's generator; Z by default.
            encoder_size: side in pixels of the set encoder's images.
            film_stages: FiLM modulates this many stages of the backbone, from the top, and the set
                encoder reads the map below them, which is computed once per image and not learned.
                None: FiLM modulates the whole backbone, and the set encoder reads the image.
            backbone_lr: learning rate of the backbone's weights as a share of the learner's.
            film_layers: the norm layers to modulate; see `networks.film.modulated_layers`.

        Raises:
            UsageError: there is no norm layer to modulate, or one without a bias; or the backbone
                has fewer stages, or no map below them.
            ValueError: unknown `film_layers`.
        """
        super().__init__(backbone, backbone_lr)
        if film_layers not in get_args(FilmLayers):  # a damaged file
            raise ValueError(f"film_layers {film_layers!r}")
        self.film_stages, self.hidden_dim, self.encoder_size = film_stages, hidden_dim, encoder_size
        self.film_layers = film_layers
        self.set_encoder: SetEncoder | MapEncoder
        upper = None
        self._start = 0
        if film_stages is None:
            self.set_encoder = SetEncoder(embedding_dim, encoder_size)
        else:
            staged = Staged(backbone)
            self._start = first_film_stage(staged, film_stages)
            for stage in staged.parameter_names()[: self._start]:
                for name in stage:
                    staged.get_parameter(name).requires_grad_(False)
            upper = staged.norm_layers(self._start)
            self.set_encoder = MapEncoder(_channels(staged, self._start), embedding_dim)
        check_norm_layers(backbone, upper)
        layers = modulated_layers(backbone, film_layers)
        names = [name for name in layers if upper is None or name in upper]
        self.film = FilmGenerator(backbone, embedding_dim, hidden_dim, names)

    @property
    def has_set_encoder(self) -> bool:
        return True

    @property
    def first_stage(self) -> int:
        return self._start

    def embed(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.set_encoder(x)
        return embedding

    def norm_parameters(self, z: Tensor | None) -> NormParameters:
        assert z is not None
        parameters: NormParameters = self.film(self.backbone, z)
        return parameters

    def penalty(self) -> Tensor:
        return self.film.penalty()

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        head = [p for p in self.head.parameters() if p.requires_grad]
        return [
            {"name": "set-encoder", "params": list(self.set_encoder.parameters()), "lr": lr},
            {"name": "film", "params": list(self.film.parameters()), "lr": lr},
            *([{"name": "head", "params": head, "lr": lr * self.head_lr}] if head else []),
            *self.backbone_groups(lr),
        ]

    def hyperparameters(self) -> dict[str, Any]:
        return {
            "embedding_dim": self.set_encoder.embedding_dim,
            "hidden_dim": self.hidden_dim,
            "encoder_size": self.encoder_size,
            "film_stages": self.film_stages,
            "backbone_lr": self.backbone_lr,
            "film_layers": self.film_layers,
        }


def first_film_stage(staged: Staged, film_stages: int) -> int:
    """Return the index of the first of the upper `film_stages` stages.

    Raises:
        UsageError: the backbone has fewer stages, or no map below them.
    """
    number = len(staged.stages)
    if not 1 <= film_stages < number:
        name = staged.backbone.name
        raise UsageError(
            f"--film-stages {film_stages}: {name} has {number} stages, so give 1 to {number - 1}."
            if number > 1
            else f"--film-stages: {name} cannot be run in stages. Leave the flag out."
        )
    return number - film_stages


def _channels(staged: Staged, start: int) -> int:
    """Return C of the map below a stage, from the input of the stage's first convolution.

    Running the stage on the "meta" device would import torch's compiler.
    """
    network = staged.backbone.network
    parts = (network.get_submodule(name) for name in staged.stages[start].modules)
    convolutions = (m for part in parts for m in part.modules() if isinstance(m, nn.Conv2d))
    return next(convolutions).in_channels


def check_norm_layers(backbone: Backbone, names: Collection[str] | None) -> None:
    """Check that there are norm layers of these names (None: any), each with a bias for FiLM.

    Raises:
        UsageError: there are none, or one has no bias.
    """
    layers = {
        name: layer
        for name, layer in backbone.norm_layers().items()
        if names is None or name in names
    }
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
