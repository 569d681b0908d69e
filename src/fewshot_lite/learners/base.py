"""The base class of learners: adapt to a support set, then give logits for queries.

A learner is put together from the functions that LITE cuts the graph between:

    x = of the image       lower          (what no task changes; most learners: the image itself)
    z = mean_n e(x_n)      embed          (learners without a set encoder have no z)
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
#: Gives for norm parameters the function from x to features.
Engine = Callable[[NormParameters], Run]


class Learner(nn.Module, ABC):
    """A meta-learner around a backbone. Always in evaluation mode; see `networks.backbone`."""

    name: ClassVar[str]
    backbone: Backbone
    head: Head

    def __init__(self, backbone: Backbone, backbone_lr: float) -> None:
        """Take in a backbone, as it is, not copied; the subclass adds the rest.

        Args:
            backbone: its images must not be coupled.
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
        """Whether the backbone is modulated by a task embedding."""
        return False

    @property
    def first_stage(self) -> int:
        """The first stage that `lower_maps` leaves to `features`; 0 for the whole backbone."""
        return 0

    @torch.no_grad()
    def lower_maps(self, images: Tensor) -> Tensor:
        """x of images (B, 3, S, S): what is neither adapted nor learned, computed once an image."""
        if not self.first_stage:
            return images
        maps: Tensor = Staged(self.backbone)(self.backbone.prepared(images), 0, self.first_stage)
        return maps

    def embed(self, x: Tensor) -> Tensor:
        """e(x), (B, Z), of what `lower_maps` gave."""
        raise NotImplementedError(f"{self.name} has no set encoder")

    def norm_parameters(self, z: Tensor | None) -> NormParameters:
        """θ = g(z); empty for learners that leave the backbone as it is."""
        return {}

    def features(self, x: Tensor, parameters: NormParameters) -> Tensor:
        """f = b(x; θ, ψ), (B, d), of what `lower_maps` gave."""
        if not self.first_stage:
            features: Tensor = functional_call(self.backbone, parameters, (x,))
            return features
        named = {f"backbone.{name}": value for name, value in parameters.items()}
        features = functional_call(Staged(self.backbone), named, (x, self.first_stage))
        return features.to(torch.promote_types(features.dtype, torch.float32))

    def penalty(self) -> Tensor:
        """A regulariser that is added to the loss of the queries, ()."""
        return torch.zeros((), device=self.backbone.mean.device)

    @abstractmethod
    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The learned parameters with their learning rates, as optimisers take them.

        Each group has a "name", which `--lr-factor` takes.
        """

    def backbone_groups(self, lr: float) -> list[dict[str, Any]]:
        """The backbone's share of `parameter_groups`; none if it is frozen."""
        if self.backbone_lr <= 0:
            return []
        parameters = [p for p in self.backbone.parameters() if p.requires_grad]
        return [{"name": "backbone", "params": parameters, "lr": lr * self.backbone_lr}]

    @abstractmethod
    def hyperparameters(self) -> dict[str, Any]:
        """The constructor's arguments besides the backbone that build this learner again."""

    def train(self, mode: bool = True) -> Learner:
        """Stay in evaluation mode: batch statistics and dropout have no place in LITE."""
        return super().train(False)

    def check_evaluation_mode(self) -> None:
        """Refuse a part that was put into training mode by itself, past `train`.

        Raises:
            ValueError: there is one; the message names it.
        """
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
            micro_batch: images in a pass; does not change the result.
            cast: makes the context that networks run in. Heads run in float32 or better.

        Raises:
            ValueError: a part of the learner is in training mode, or a class has no image.
            FewshotError: what comes out is not finite.
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
        """As `adapt`, from what `lower_maps` gave of the support set, N rows.

        Args:
            engine: computes their features in the place of `features`.
        """
        self.check_evaluation_mode()
        z = None
        if self.has_set_encoder:
            z = task_embedding(self, x, passes)
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
    """(N, d), as the adapted backbone sees the support images."""
    passes: Passes

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features (Q, d) of images (Q, 3, S, S)."""

        def of_batch(x: Tensor) -> Tensor:
            return self.learner.features(self.learner.lower_maps(x), self.parameters)

        return self.passes.map(of_batch, images)

    @torch.no_grad()
    def features_from_maps(self, x: Tensor) -> Tensor:
        """As `features`, from what `Learner.lower_maps` gave of the images."""

        def of_batch(part: Tensor) -> Tensor:
            return self.learner.features(part, self.parameters)

        return self.passes.map(of_batch, x)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Logits (Q, K) of images (Q, 3, S, S)."""
        return self.learner.head.logits(self.statistics, self.features(images))


def lower_maps_of(learner: Learner, images: Tensor, passes: Passes = Passes()) -> Tensor:
    """`Learner.lower_maps` of images, pass by pass; the images if there are none."""
    return passes.map(learner.lower_maps, images) if learner.first_stage else images


def task_embedding(learner: Learner, x: Tensor, passes: Passes) -> Tensor:
    """z = mean_n e(x_n), (Z,), of what `lower_maps` gave of the support set."""
    return passes.map(learner.embed, x).mean(0)
