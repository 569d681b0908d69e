"""Base class of learners: adapt to a support set, then return logits for queries.

A learner consists of the functions between which LITE cuts the graph:

    x                      lower_maps       (fixed lower layers; of most learners, the image itself)
    z = mean_n e(x_n)      embed            (learners without a set encoder have no z)
    θ = g(z)               norm_parameters
    f = b(x; θ, ψ)         features
    statistics, logits     head
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fewshot_lite.core.errors import NOT_FINITE, FewshotError
from fewshot_lite.heads.base import Head, Statistics
from fewshot_lite.networks.backbone import Backbone, check_images_apart
from fewshot_lite.networks.film import NormParameters
from fewshot_lite.networks.micro_batches import Cast, Passes
from fewshot_lite.networks.stages import Staged

Run = Callable[[Tensor], Tensor]
#: Returns, for norm parameters, the function from x to features.
Engine = Callable[[NormParameters], Run]


class Learner(nn.Module, ABC):
    """A meta-learner around a backbone. Always in evaluation mode; see `networks.backbone`."""

    name: ClassVar[str]
    backbone: Backbone
    head: Head

    def __init__(self, backbone: Backbone, backbone_lr: float) -> None:
        """Store a backbone, without copying it; the subclass adds the rest.

        Args:
            backbone: the features of an image must depend on that image only.
            backbone_lr: learning rate of its weights as a share of the learner's; 0 freezes them.

        Raises:
            UsageError: as `check_images_apart`.
        """
        super().__init__()
        check_images_apart(backbone)
        self.backbone = backbone
        self.backbone_lr = backbone_lr
        for parameter in backbone.parameters():
            parameter.requires_grad_(backbone_lr > 0)

    @property
    def has_set_encoder(self) -> bool:
        """Whether a task embedding modulates the backbone."""
        return False

    @property
    def first_stage(self) -> int:
        """The first stage that `features` runs, after those of `lower_maps`; 0 for all."""
        return 0

    @torch.no_grad()
    def lower_maps(self, images: Tensor) -> Tensor:
        """Return x of images (B, 3, S, S), by the stages that are neither adapted nor learned."""
        if not self.first_stage:
            return images
        maps: Tensor = Staged(self.backbone)(self.backbone.prepared(images), 0, self.first_stage)
        return maps

    def embed(self, x: Tensor) -> Tensor:
        """Return e(x), (B, Z), for x from `lower_maps`."""
        raise NotImplementedError(f"{self.name} has no set encoder")

    def norm_parameters(self, z: Tensor | None) -> NormParameters:
        """Return θ = g(z); empty for learners that do not modulate the backbone."""
        return {}

    def features(self, x: Tensor, parameters: NormParameters) -> Tensor:
        """Return f = b(x; θ, ψ), (B, d), for x from `lower_maps`."""
        if not self.first_stage:
            features: Tensor = functional_call(self.backbone, parameters, (x,))
            return features
        named = {f"backbone.{name}": value for name, value in parameters.items()}
        features = functional_call(Staged(self.backbone), named, (x, self.first_stage))
        return features.to(torch.promote_types(features.dtype, torch.float32))

    def penalty(self) -> Tensor:
        """Return a regulariser, (), that is added to the loss of the queries."""
        return torch.zeros((), device=self.backbone.mean.device)

    @abstractmethod
    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return the learned parameters and their learning rates as groups for an optimiser.

        Each group has a "name", which `--lr-factor` takes.
        """

    def backbone_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return the groups of the backbone's parameters; none if it is frozen."""
        if self.backbone_lr <= 0:
            return []
        parameters = [p for p in self.backbone.parameters() if p.requires_grad]
        return [{"name": "backbone", "params": parameters, "lr": lr * self.backbone_lr}]

    @abstractmethod
    def hyperparameters(self) -> dict[str, Any]:
        """Return the constructor's arguments, besides the backbone, that rebuild this learner."""

    def train(self, mode: bool = True) -> Learner:
        """Stay in evaluation mode, as LITE allows neither batch statistics nor dropout."""
        return super().train(False)

    def check_evaluation_mode(self) -> None:
        """Raise ValueError if a submodule was put into training mode directly."""
        for name, module in self.named_modules():
            if module.training:
                raise ValueError(
                    f"{name or self.name}: in training mode, where batch statistics would couple "
                    "the images of a task and dropout would change them. Call .eval() first."
                )

    @torch.no_grad()
    def adapt(
        self,
        images: Tensor,
        labels: Tensor,
        classes: int,
        *,
        micro_batch: int = 64,
        cast: Cast = contextlib.nullcontext,
    ) -> TaskClassifier:
        """Adapt to a support set in one forward pass.

        Args:
            images: (N, 3, S, S), uint8 or float in [0, 1].
            labels: int64 (N,) of 0..K-1, every class present.
            classes: K.
            micro_batch: images per pass; does not change the result.
            cast: factory of the context of networks, e.g. autocast. Heads run in float32 or better.

        Raises:
            ValueError: a part of the learner is in training mode, or a class has no image.
            FewshotError: the head's statistics are not finite.
        """
        passes = Passes(micro_batch, cast)
        x = lower_maps_of(self, images, passes)
        return self.adapt_from_maps(x, labels, classes, passes=passes)

    @torch.no_grad()
    def adapt_from_maps(
        self,
        x: Tensor,
        labels: Tensor,
        classes: int,
        *,
        passes: Passes = Passes(),
        engine: Engine | None = None,
    ) -> TaskClassifier:
        """Adapt as `adapt` does, to a support set given as `lower_maps` of its N images.

        Args:
            engine: computes the features in place of `self.features`.
        """
        self.check_evaluation_mode()
        z = task_embedding(self, x, passes) if self.has_set_encoder else None
        parameters = self.norm_parameters(z)
        run = engine(parameters) if engine else lambda part: self.features(part, parameters)
        features = passes.map(run, x)
        statistics = self.head.fit(features, labels, classes)
        if not all(bool(torch.isfinite(value).all()) for value in statistics.values()):
            raise FewshotError(NOT_FINITE)
        return TaskClassifier(self, parameters, statistics, features, passes)


@dataclass(frozen=True)
class TaskClassifier:
    """A learner adapted to one task."""

    learner: Learner
    parameters: NormParameters
    statistics: Statistics
    support_features: Tensor
    """(N, d), features of the support images by the adapted backbone."""
    passes: Passes

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return features (Q, d) of images (Q, 3, S, S)."""
        learner, parameters = self.learner, self.parameters
        return self.passes.map(
            lambda x: learner.features(learner.lower_maps(x), parameters), images
        )

    @torch.no_grad()
    def features_from_maps(self, x: Tensor) -> Tensor:
        """Return features (Q, d) of x from `Learner.lower_maps`."""
        return self.passes.map(lambda part: self.learner.features(part, self.parameters), x)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Return logits (Q, K) of images (Q, 3, S, S)."""
        return self.learner.head.logits(self.statistics, self.features(images))


def lower_maps_of(learner: Learner, images: Tensor, passes: Passes = Passes()) -> Tensor:
    """Return `Learner.lower_maps` of images, in micro-batches; the images if there are no maps."""
    return passes.map(learner.lower_maps, images) if learner.first_stage else images


def task_embedding(learner: Learner, x: Tensor, passes: Passes) -> Tensor:
    """Return z = mean_n e(x_n), (Z,), for x from `lower_maps` of the support set."""
    return passes.map(learner.embed, x).mean(0)
