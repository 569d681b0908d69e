"""What every learner is: adapt to a support set, then give logits for queries.

A learner is put together from the functions that LITE cuts the graph between:

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

from fewshot_lite.backbones import Backbone
from fewshot_lite.film import NormParameters
from fewshot_lite.heads import Statistics
from fewshot_lite.heads.registry import AnyHead

#: Makes the context that networks run in, e.g. autocast.
Cast = Callable[[], contextlib.AbstractContextManager[None]]


class Learner(nn.Module, ABC):
    """A meta-learner around a backbone. Always in evaluation mode; see `backbones`."""

    name: ClassVar[str]
    backbone: Backbone
    head: AnyHead

    @property
    def has_set_encoder(self) -> bool:
        """Whether the backbone is modulated by a task embedding."""
        return False

    def embed(self, images: Tensor) -> Tensor:
        """e(x), (B, Z), of images (B, 3, S, S)."""
        raise NotImplementedError(f"{self.name} has no set encoder")

    def norm_parameters(self, z: Tensor | None) -> NormParameters:
        """θ = g(z); empty for learners that leave the backbone as it is."""
        return {}

    def features(self, images: Tensor, parameters: NormParameters) -> Tensor:
        """f = b(x; θ, ψ), (B, d), of images (B, 3, S, S)."""
        features: Tensor = functional_call(self.backbone, parameters, (images,))
        return features

    def penalty(self) -> Tensor:
        """What is added to the loss besides the queries', ()."""
        return torch.zeros((), device=self.backbone.mean.device)

    @abstractmethod
    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The learned parameters with their learning rates, as optimisers take them."""

    @abstractmethod
    def hyperparameters(self) -> dict[str, Any]:
        """What the constructor needs besides the backbone to build this learner again."""

    def train(self, mode: bool = True) -> Learner:
        """Stay in evaluation mode: batch statistics and dropout have no place in LITE."""
        return super().train(False)

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
        """
        z = None
        if self.has_set_encoder:
            z = task_embedding(self, images, micro_batch, cast)
        parameters = self.norm_parameters(z)
        features = map_batches(lambda x: self.features(x, parameters), images, micro_batch, cast)
        statistics = self.head.fit(features, labels, classes)
        return TaskClassifier(self, parameters, statistics, features, micro_batch, cast)


@dataclass(frozen=True)
class TaskClassifier:
    """A learner adapted to one task."""

    learner: Learner
    parameters: NormParameters
    statistics: Statistics
    support_features: Tensor
    """(N, d), as the adapted backbone sees the support images."""
    micro_batch: int
    cast: Cast

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Logits (Q, K) of images (Q, 3, S, S)."""

        def of_batch(x: Tensor) -> Tensor:
            return self.learner.features(x, self.parameters)

        features = map_batches(of_batch, images, self.micro_batch, self.cast)
        return self.learner.head.logits(self.statistics, features)


def map_batches(
    function: Callable[[Tensor], Tensor],
    images: Tensor,
    size: int,
    cast: Cast = contextlib.nullcontext,
) -> Tensor:
    """A function of images, micro-batch by micro-batch, as one tensor in float32 or better."""
    results = []
    for batch in images.split(size):
        with cast():
            result = function(batch)
        results.append(result.to(torch.promote_types(result.dtype, torch.float32)))
    return torch.cat(results)


def task_embedding(learner: Learner, images: Tensor, size: int, cast: Cast) -> Tensor:
    """z = mean_n e(x_n), (Z,)."""
    return map_batches(learner.embed, images, size, cast).mean(0)
