"""Cross-validation of the whole adaptation, for learners that adapt by gradient.

Gradient steps move the network itself towards the labels of the support set, so that its features
encode them, and leaving a photo out of the head alone (`Head.leave_one_out_logits`) is not enough.
Here the photos are dealt out over four folds, and each fold is classified by the learner adapted
anew to the other three, which costs about three more adaptations.
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
from fewshot_lite.personal.novelty import NoveltyDetector
from fewshot_lite.personal.quality import FOLDS
from fewshot_lite.personal.views import AS_IS


@dataclass(frozen=True)
class CrossAdaptation:
    """The outputs for N support images of models adapted without them."""

    logits: Tensor
    """float32 (N, K); NaN in the rows of images that are their class's only one."""
    strangeness: Tensor
    """Novelty scores, float32 (N,), as `NoveltyDetector.strangeness`; NaN likewise."""

    @classmethod
    def unknown(cls, images: int, classes: int, device: torch.device) -> CrossAdaptation:
        """Return outputs that are NaN for all images."""
        logits = torch.full((images, classes), torch.nan, device=device)
        return cls(logits, logits[:, 0].clone())


@dataclass(frozen=True)
class Adapted:
    """The result of an adaptation, from which a personal model is made."""

    classifier: TaskClassifier
    choice: Choice
    views: tuple[str, ...] = (AS_IS,)
    crossed: CrossAdaptation | None = None
    """Outputs of models adapted without the photo, if gradient steps were taken; the logits have
    the head's temperature."""
    record: dict[str, Any] = field(default_factory=dict)
    """JSON-able entries of the model's provenance."""


def cross_adapt(
    learner: Learner,
    images: Tensor,
    labels: Tensor,
    classes: int,
    groups: Tensor | None = None,
    *,
    on_done: OnDone | None = None,
) -> CrossAdaptation:
    """Adapt anew without each fold, and run the result on the images left out.

    Args:
        learner: as it was meta-trained.
        images: (N, 3, S, S), uint8 or float in [0, 1].
        labels: int64 (N,) of 0..K-1, every class present.
        classes: K.
        groups: int64 (N,), images of one number are left out together (`heads.groups`).
        on_done: called with (folds done, folds in all).

    Raises:
        FewshotError: adapting to some of the folds diverged.
    """
    fold_of = deal(labels, classes, groups)
    crossed = CrossAdaptation.unknown(len(labels), classes, labels.device)
    folds = [fold for fold in fold_of.unique().tolist() if fold >= 0]
    x = lower_maps_of(learner, images)
    for number, fold in enumerate(folds, start=1):
        out = fold_of == fold
        kept = labels[~out]
        adapted = learner.adapt_from_maps(x[~out], kept, classes)
        features = adapted.features_from_maps(x[out])
        logits = learner.head.logits(adapted.statistics, features).float()
        scores = NoveltyDetector(adapted.support_features, kept, classes).strangeness(features)
        if not bool(logits.isfinite().all() and scores.isfinite().all()):
            raise FewshotError(
                "Adapting diverged on three quarters of the photos. Meta-train the model with a "
                "smaller --inner-lr."
            )
        crossed.logits[out], crossed.strangeness[out] = logits, scores
        if on_done is not None:
            on_done(number, len(folds))
    return crossed


def deal(labels: Tensor, classes: int, groups: Tensor | None = None) -> Tensor:
    """Deal images out over folds; return int64 (N,), -1 for a class's only image or clip.

    Each class is dealt image by image, starting at the fold after the last one of the class before:
    so folds have about the same size, and a class of two images or more always keeps some. The
    frames of a clip, of one number in `groups` int64 (N,), go to one fold.
    """
    if groups is None:
        groups = torch.arange(len(labels), device=labels.device)
    fold_of = torch.full_like(labels, -1)
    start = 0
    for k in range(classes):
        members = (labels == k).nonzero().flatten()
        distinct, rank = groups[members].unique(return_inverse=True)
        if len(distinct) > 1:
            fold_of[members] = (start + rank) % FOLDS
            start += len(distinct)
    return fold_of
