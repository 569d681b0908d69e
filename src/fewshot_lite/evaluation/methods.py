"""Methods adapt to a task: a meta-trained learner, a head on a fixed backbone, fine-tuning.

    images, labels --adapt--> classifier: images -> logits

A method that leaves the backbone as it is can be given features instead (`FrozenMethod.fit`), so
that each image goes through the backbone once in a whole comparison.
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
        """A method around a backbone, used as it is, where it is.

        Args:
            name: as tables show it.
            image_size: side of the images that it is given, in pixels.
        """
        self.name = name
        self.backbone = backbone
        self.image_size = image_size
        self.passes = passes

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.backbone.mean.device

    @property
    def parameters(self) -> int:
        """Numbers that are kept for adapting; what is made for a task does not count."""
        return _count(self.backbone)

    @abstractmethod
    def adapt(self, images: Tensor, labels: Tensor, classes: int) -> Classifier:
        """Adapt to support images.

        Args:
            images: uint8 (N, 3, S, S) on the device.
            labels: int64 (N,) of 0..K-1, every class present.
            classes: K.

        Returns:
            From query images, uint8 (B, 3, S, S), to logits (B, K).
        """

    def bare(self, images: Tensor) -> Tensor:
        """Features (B, d) of the backbone as it is: what any method costs at least."""
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
        """The learner adapted to support images as `adapt` takes them.

        Raises:
            FewshotError: it cannot be; the message names the method.
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
        """Adapts as `fewshot-lite adapt` does, views and head included."""
        given = self.learner, images, labels, classes
        with self.named_errors():
            return adapt_in_one_pass(*given, AdaptOptions(head), passes=self.passes)

    @contextlib.contextmanager
    def named_errors(self) -> Iterator[None]:
        """Put the method's name before what is wrong."""
        try:
            yield
        except FewshotError as error:
            raise type(error)(f"{self.name}: {error}") from None


class FilmHeadMethod(LearnerMethod):
    """A head of one's choice on what a meta-trained learner makes of the features."""

    def __init__(
        self, name: str, learner: Learner, head: HeadName, image_size: int, passes: Passes
    ) -> None:
        """A method; `head` as `adapt --head` takes it.

        Raises:
            UsageError: the learner adapts features to their labels, which favours any head.
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
            found = self.in_one_pass(images, labels, classes, self.head)
        return _classifier(found.choice.head, found.classifier, found.labels, classes)


class RefinedMethod(LearnerMethod):
    """A meta-trained learner as `adapt` takes it, refined by all steps of `Refinement`."""

    def __init__(
        self,
        name: str,
        learner: Learner,
        image_size: int,
        passes: Passes,
        settings: Refinement | None = None,
    ) -> None:
        """A method.

        Raises:
            UsageError: as `RefinedLearner`.
        """
        super().__init__(name, learner, image_size, passes)
        self.settings = settings or Refinement()

    @property
    def settings(self) -> Refinement:
        """How it is refined."""
        return self.refined.settings

    @settings.setter
    def settings(self, settings: Refinement) -> None:
        with self.named_errors():
            self.refined = RefinedLearner(self.learner, settings)

    def adapt(self, images: Tensor, labels: Tensor, classes: int) -> Classifier:
        found = self.in_one_pass(images, labels, classes, "default")
        given = found.labels, classes, found.groups
        with self.named_errors():
            maps = self.refined.upper_maps(found.classifier, found.maps)
            adapted = self.refined.refine(found.classifier, maps, *given)
        support = SupportSet(adapted.support_features, *given)
        head = choose_head("default", self.learner.head, support).head
        return _classifier(head, adapted, found.labels, classes)


@torch.no_grad()
def _classifier(head: Head, adapted: TaskClassifier, labels: Tensor, classes: int) -> Classifier:
    """A head fitted to the support features of a task."""
    statistics = head.fit(adapted.support_features, labels, classes)

    @torch.no_grad()
    def classify(queries: Tensor) -> Tensor:
        return head.logits(statistics, adapted.features(queries))

    return classify


class FrozenMethod(Method):
    """A method that looks at features of the backbone as it is."""

    @abstractmethod
    def fit(self, features: Tensor, labels: Tensor, classes: int) -> Classifier:
        """As `adapt`, from support features (N, d) to a function of query features (B, d)."""

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
        with torch.no_grad():
            statistics = self.head.fit(features, labels, classes)

        @torch.no_grad()
        def classify(queries: Tensor) -> Tensor:
            return self.head.logits(statistics, queries)

        return classify


class _FineTuned(Method):
    """The base of both kinds of fine-tuning: the optimiser's settings."""

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
        return torch.no_grad()(fine_tune_head(features, labels, classes, self.settings).__call__)


class FineTunedFilm(_FineTuned):
    """Gradient steps on a linear layer and on FiLM parameters, through the backbone."""

    fine_tune = staticmethod(fine_tune_film)

    def adapt(self, images: Tensor, labels: Tensor, classes: int) -> Classifier:
        parameters, layer = self.fine_tune(
            self.backbone, images, labels, classes, self.settings, passes=self.passes
        )

        def features(queries: Tensor) -> Tensor:
            found: Tensor = functional_call(self.backbone, parameters, (queries,))
            return found

        @torch.no_grad()
        def classify(queries: Tensor) -> Tensor:
            return layer(self.passes.map(features, queries))

        return classify


def _check_own_statistics(name: str, backbone: Backbone) -> None:
    """Refuse a backbone that is none by itself.

    Raises:
        UsageError: its norm layers never had statistics but those of support sets.
    """
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
