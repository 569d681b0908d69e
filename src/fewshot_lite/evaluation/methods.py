"""Methods that adapt to a task: a meta-trained learner, a head on a fixed backbone, fine-tuning.

    images, labels --adapt--> classifier: images -> logits

A method that does not change the backbone takes features instead (`FrozenMethod.fit`), so that
each image goes through the backbone once in a comparison.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fewshot_lite.core.config import HeadName
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.evaluation.finetuning import (
    FineTuning,
    fine_tune_film,
    fine_tune_head,
    fine_tune_weights,
)
from fewshot_lite.heads.base import Head, SupportSet
from fewshot_lite.heads.choice import choose_head
from fewshot_lite.learners.base import Learner, TaskClassifier
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.refined import RefinedLearner, Refinement
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.networks.support_norm import SupportNorm
from fewshot_lite.personal.adapt_options import AdaptOptions
from fewshot_lite.personal.one_pass import OnePass, adapt_in_one_pass

#: Query images (B, 3, S, S) or features (B, d) to logits (B, K).
Classifier = Callable[[Tensor], Tensor]


class Method(ABC):
    """One of the models of a comparison."""

    def __init__(self, name: str, backbone: Backbone, image_size: int, passes: Passes) -> None:
        """Wrap a backbone, without copying or moving it.

        Args:
            name: the name in tables.
            image_size: side of its input images in pixels.
        """
        self.name = name
        self.backbone = backbone
        self.image_size = image_size
        self.passes = passes

    @property
    def device(self) -> torch.device:
        """The device of the backbone."""
        return self.backbone.mean.device

    @property
    def parameters(self) -> int:
        """The number of parameters, without those made for a task."""
        return _count(self.backbone)

    @abstractmethod
    def adapt(self, images: Tensor, labels: Tensor, classes: int) -> Classifier:
        """Adapt to support images.

        Args:
            images: uint8 (N, 3, S, S) on the device.
            labels: int64 (N,) of 0..K-1, every class present.
            classes: K.

        Returns:
            A function of query images, uint8 (B, 3, S, S), to logits (B, K).
        """

    def bare(self, images: Tensor) -> Tensor:
        """Return features (B, d) of the unadapted backbone: the least that any method costs."""
        with torch.no_grad():
            return self.passes.map(self.backbone, images)


class LearnerMethod(Method):
    """A meta-trained learner."""

    def __init__(self, name: str, learner: Learner, image_size: int, passes: Passes) -> None:
        super().__init__(name, learner.backbone, image_size, passes)
        self.learner = learner

    @property
    def parameters(self) -> int:
        return _count(self.learner)

    def adapt(self, images: Tensor, labels: Tensor, classes: int) -> Classifier:
        return self.adapted(images, labels, classes).logits

    def adapted(self, images: Tensor, labels: Tensor, classes: int) -> TaskClassifier:
        """Return the learner adapted to support images; the parameters are those of `adapt`.

        Raises:
            FewshotError: adapting failed; the message names the method.
        """
        with self.named_errors():
            return self.learner.adapt(
                images,
                labels,
                classes,
                micro_batch=self.passes.micro_batch,
                cast=self.passes.cast,
            )

    def in_one_pass(self, images: Tensor, labels: Tensor, classes: int, head: HeadName) -> OnePass:
        """Adapt as `fewshot-lite adapt` does, views and head included."""
        options = AdaptOptions(head)
        with self.named_errors():
            return adapt_in_one_pass(
                self.learner, images, labels, classes, options, passes=self.passes
            )

    @contextlib.contextmanager
    def named_errors(self) -> Iterator[None]:
        """Put the method's name before the message of an error."""
        try:
            yield
        except FewshotError as error:
            raise type(error)(f"{self.name}: {error}") from None


class FilmHeadMethod(LearnerMethod):
    """A head of one's choice on features adapted by a meta-trained learner."""

    def __init__(
        self, name: str, learner: Learner, head: HeadName, image_size: int, passes: Passes
    ) -> None:
        """Wrap a learner; `head` is a name of `adapt --head`.

        Raises:
            UsageError: the learner adapts by gradient, its head together with the features.
        """
        super().__init__(name, learner, image_size, passes)
        if isinstance(learner, GradientLearner):
            raise UsageError(
                f"{name}: {learner.name} adapts by gradient steps, its head together with the "
                f"features. Give {name.partition(':')[2] or 'the checkpoint'} alone."
            )
        self.head: HeadName = head

    def adapt(self, images: Tensor, labels: Tensor, classes: int) -> Classifier:
        with torch.no_grad():
            adapted = self.in_one_pass(images, labels, classes, self.head)
        return _classifier(adapted.choice.head, adapted.classifier, adapted.labels, classes)


class RefinedMethod(LearnerMethod):
    """A meta-trained learner, adapted as by `fewshot-lite adapt` and refined by all steps."""

    def __init__(
        self,
        name: str,
        learner: Learner,
        image_size: int,
        passes: Passes,
        settings: Refinement | None = None,
    ) -> None:
        """Wrap a learner; raise UsageError as `RefinedLearner`."""
        super().__init__(name, learner, image_size, passes)
        self.settings = settings or Refinement()

    @property
    def settings(self) -> Refinement:
        """The settings of the refinement."""
        return self.refined.settings

    @settings.setter
    def settings(self, settings: Refinement) -> None:
        with self.named_errors():
            self.refined = RefinedLearner(self.learner, settings)

    def adapt(self, images: Tensor, labels: Tensor, classes: int) -> Classifier:
        one_pass = self.in_one_pass(images, labels, classes, "default")
        labelled = one_pass.labels, classes, one_pass.groups
        with self.named_errors():
            maps = self.refined.upper_maps(one_pass.classifier, one_pass.maps)
            adapted = self.refined.refine(one_pass.classifier, maps, *labelled)
        support = SupportSet(adapted.support_features, *labelled)
        head = choose_head("default", self.learner.head, support).head
        return _classifier(head, adapted, one_pass.labels, classes)


def _classifier(head: Head, adapted: TaskClassifier, labels: Tensor, classes: int) -> Classifier:
    """Fit a head to the support features of an adapted learner."""
    classify = _fit_head(head, adapted.support_features, labels, classes)
    return torch.no_grad()(lambda queries: classify(adapted.features(queries)))


@torch.no_grad()
def _fit_head(head: Head, features: Tensor, labels: Tensor, classes: int) -> Classifier:
    """Fit a head to features; return a function of query features (B, d) to logits (B, K)."""
    statistics = head.fit(features, labels, classes)
    return torch.no_grad()(lambda queries: head.logits(statistics, queries))


class FrozenMethod(Method):
    """A method that uses features of the unadapted backbone."""

    @abstractmethod
    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Classifier:
        """Adapt to support features (N, d); return a function of query features (B, d)."""

    def adapt(self, images: Tensor, labels: Tensor, classes: int) -> Classifier:
        classify = self.fit(self.bare(images), labels, classes)
        return lambda queries: classify(self.bare(queries))


class HeadMethod(FrozenMethod):
    """A head that is fitted in closed form or to convergence."""

    def __init__(
        self, name: str, head: Head, backbone: Backbone, image_size: int, passes: Passes
    ) -> None:
        _check_own_statistics(name, backbone)
        super().__init__(name, backbone, image_size, passes)
        self.head = head

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Classifier:
        return _fit_head(self.head, features, labels, classes)


class _FineTuned(Method):
    """The base of all kinds of fine-tuning, with the optimiser's settings."""

    def __init__(
        self,
        name: str,
        settings: FineTuning,
        backbone: Backbone,
        image_size: int,
        passes: Passes,
    ) -> None:
        _check_own_statistics(name, backbone)
        super().__init__(name, backbone, image_size, passes)
        self.settings = settings


class FineTunedHead(_FineTuned, FrozenMethod):
    """Gradient steps on a linear layer; features are computed once."""

    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Classifier:
        return torch.no_grad()(fine_tune_head(features, labels, classes, self.settings))


class FineTunedFilm(_FineTuned):
    """Gradient steps on a linear layer and on FiLM parameters, through the backbone."""

    fine_tune = staticmethod(fine_tune_film)

    def adapt(self, images: Tensor, labels: Tensor, classes: int) -> Classifier:
        parameters, layer = self.fine_tune(
            self.backbone, images, labels, classes, self.settings, passes=self.passes
        )

        def features(queries: Tensor) -> Tensor:
            adapted: Tensor = functional_call(self.backbone, parameters, (queries,))
            return adapted

        @torch.no_grad()
        def classify(queries: Tensor) -> Tensor:
            logits: Tensor = layer(self.passes.map(features, queries))
            return logits

        return classify


def _check_own_statistics(name: str, backbone: Backbone) -> None:
    """Raise UsageError if the norm layers have no statistics but those of support sets."""
    if any(isinstance(module, SupportNorm) for module in backbone.modules()):
        raise UsageError(
            f"{name}: the backbone was meta-trained with the support set's norm statistics, and "
            "has none of its own. Give the baseline another backbone."
        )


class FineTunedWeights(FineTunedFilm):
    """Gradient steps on a linear layer and on the backbone's weights."""

    fine_tune = staticmethod(fine_tune_weights)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
