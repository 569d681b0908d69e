"""Estimate the gain by more photos, from a learning curve of the present ones.

Errors fall about as a power of the number of photos (Hestness et al., "Deep Learning Scaling is
Predictable, Empirically", 2017), so doubling the photos again reduces errors by the same factor as
going from half of them to all. That factor can be measured: the head is fitted to random halves,
and classifies the other photos. The frames of a clip are in one half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewshot_lite.heads.groups import even_weights, groups_per_class
from fewshot_lite.personal.quality import Quality
from fewshot_lite.personal.with_photos import WithPhotos

#: Random halves.
_DRAWS = 10
#: The fewest photos of a class whose halves tell anything.
_FEWEST = 4
#: Limits of the factor on errors: doubling at most halves them, and adds none.
_BEST, _WORST = 0.5, 1.0


@dataclass(frozen=True)
class Growth:
    """A learning curve of three points."""

    half: float
    """Accuracy with half of the photos, measured."""
    now: float
    """Accuracy with all of them, as `assess` expects it."""
    doubled: float
    """Accuracy with twice as many, extrapolated."""


def expected_growth(personal: WithPhotos, quality: Quality) -> Growth | None:
    """Estimate the accuracy with twice as many photos of each class, taken like the present ones.

    Args:
        personal: the model.
        quality: `assess` of it.

    Returns:
        The curve; None for a class of fewer than four photos or clips, too few photos for an
        expected accuracy, or a model that was adapted by gradient.
    """
    enough = quality.accuracy is not None and quality.enough and not personal.adapted_by_gradient
    labels, groups = personal.contents.labels, personal.contents.together
    fewest = groups_per_class(labels, len(personal.class_names), groups).min()
    if not enough or fewest < _FEWEST:
        return None
    assert quality.accuracy is not None
    draws = np.random.default_rng(0)
    halves = [_half_accuracy(personal, draws) for _ in range(_DRAWS)]
    half = sum(halves) / len(halves)
    errors = 1 - quality.accuracy
    factor = min(max(errors / max(1 - half, 1e-6), _BEST), _WORST)
    return Growth(half, quality.accuracy, 1 - errors * factor)


def _half_accuracy(personal: WithPhotos, draws: np.random.Generator) -> float:
    """Fit the head to a random half of each class; return its accuracy, even over classes."""
    contents, classes = personal.contents, len(personal.class_names)
    labels, groups = contents.labels, contents.together
    kept = np.zeros(len(labels), bool)
    for k in range(classes):
        members = draws.permutation(list(dict.fromkeys(groups[labels == k].tolist())))
        kept |= (groups[:, None] == members[: len(members) // 2]).any(1)
    rows, row_labels, photos = contents.rows()
    chosen = kept[photos]
    logits = personal.array_head.fit((rows[chosen], row_labels[chosen], classes))
    answers = logits(contents.features[~kept, 0]).argmax(1)
    weights = even_weights(labels[~kept], classes, groups[~kept])
    return float((weights * (answers == labels[~kept])).sum())
