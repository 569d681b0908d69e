"""The answers of a learner that adapts by gradient for photos that it did not adapt to.

Gradient steps move the network itself towards the photos' labels, so that its features of them know
the answers, and leaving a photo out of the head alone (`Head.leave_one_out_logits`) would tell
nothing. Cross-validation of the whole adaptation does: the photos are dealt out over four folds,
and each fold is named by the learner adapted anew to the other three. It costs about three
adaptations more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.progress import OnDone
from fewshot_lite.heads.choice import Choice
from fewshot_lite.learners.base import Learner, TaskClassifier, lower_maps_of
from fewshot_lite.personal.folds import FOLDS
from fewshot_lite.personal.novelty import NoveltyDetector
from fewshot_lite.personal.views import AS_IS


@dataclass(frozen=True)
class CrossAdaptation:
    """N support images, each as seen by a model that was adapted without it."""

    logits: Tensor
    """float32 (N, K); NaN in the rows of images that are their class's only one."""
    strangeness: Tensor
    """float32 (N,), as `NoveltyDetector.strangeness`; NaN likewise."""

    @classmethod
    def unknown(cls, images: int, classes: int, device: torch.device) -> CrossAdaptation:
        """Of so many images of which none was left out yet."""
        logits = torch.full((images, classes), torch.nan, device=device)
        return cls(logits, logits[:, 0].clone())


@dataclass(frozen=True)
class Adapted:
    """A support set that was adapted to, as a personal model takes it."""

    classifier: TaskClassifier
    choice: Choice
    views: tuple[str, ...] = (AS_IS,)
    crossed: CrossAdaptation | None = None
    """The support photos seen by models adapted without them, if gradient steps were taken; logits
    are those of the head."""
    record: dict[str, Any] = field(default_factory=dict)
    """JSON-able, for the model's provenance."""


def cross_adapt(
    learner: Learner,
    images: Tensor,
    labels: Tensor,
    classes: int,
    groups: Tensor | None = None,
    *,
    on_done: OnDone | None = None,
) -> CrossAdaptation:
    """Adapt anew without each fold, and look at what was left out.

    Args:
        learner: as it was meta-trained.
        images: (N, 3, S, S), uint8 or float in [0, 1].
        labels: int64 (N,) of 0..K-1, every class present.
        classes: K.
        groups: int64 (N,), what is left out together (`heads.groups`).
        on_done: called with (folds done, folds in all).

    Raises:
        FewshotError: adapting to some of the folds diverged.
    """
    place = deal(labels, classes, groups)
    found = CrossAdaptation.unknown(len(labels), classes, labels.device)
    folds = [fold for fold in place.unique().tolist() if fold >= 0]
    x = lower_maps_of(learner, images)
    for number, fold in enumerate(folds):
        out = place == fold
        kept = labels[~out]
        adapted = learner.adapt_from_maps(x[~out], kept, classes)
        features = adapted.features_from_maps(x[out])
        found.logits[out] = learner.head.logits(adapted.statistics, features).float()
        detector = NoveltyDetector(adapted.support_features, kept, classes)
        found.strangeness[out] = detector.strangeness(features)
        if not bool(found.logits[out].isfinite().all() and found.strangeness[out].isfinite().all()):
            raise FewshotError(
                "Adapting diverged on three quarters of the photos. Meta-train the model with a "
                "smaller --inner-lr."
            )
        if on_done is not None:
            on_done(number + 1, len(folds))
    return found


def deal(labels: Tensor, classes: int, groups: Tensor | None = None) -> Tensor:
    """The fold that leaves each image out, int64 (N,); -1 for a class's only image or clip.

    A class is dealt out image by image, from the fold on where the class before it ended: so folds
    are of about one size, and no class of two images or more is ever left without any. The frames
    of a clip, of one number in `groups` int64 (N,), go to one fold.
    """
    if groups is None:
        groups = torch.arange(len(labels), device=labels.device)
    place = torch.full_like(labels, -1)
    start = 0
    for k in range(classes):
        members = (labels == k).nonzero().flatten()
        own, rank = groups[members].unique(return_inverse=True)
        if len(own) > 1:
            place[members] = (start + rank) % FOLDS
            start += len(own)
    return place
