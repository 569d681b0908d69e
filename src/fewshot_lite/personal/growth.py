"""The worth of more photos, from a learning curve of those there are.

Errors fall about as a power of the number of photos (Hestness et al., "Deep Learning Scaling is
Predictable, Empirically", 2017), so that doubling from half of the photos to all of them lessens
errors by the factor by which doubling again would. The first of the two can be measured: the head
is fitted to random halves, and names the other photos. The frames of a clip are in one half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewshot_lite.heads.groups import even_weights, groups_per_class
from fewshot_lite.personal.quality import Quality
from fewshot_lite.personal.with_photos import WithPhotos

#: Random halves.
_DRAWS = 10
#: Fewer photos of a class cannot be halved and tell anything.
_FEWEST = 4
#: Doubling lessens errors by no more than this, nor does it add any.
_BEST, _WORST = 0.5, 1.0


@dataclass(frozen=True)
class Growth:
    """A learning curve of three points."""

    half: float
    """Accuracy with half of the photos, measured."""
    now: float
    """With all of them, as `assess` expects it."""
    doubled: float
    """With twice as many, extrapolated."""


def expected_growth(personal: WithPhotos, quality: Quality) -> Growth | None:
    """The accuracy to expect of twice as many photos of each class, taken like those there are.

    Args:
        personal: the model.
        quality: `assess` of it.

    Returns:
        None where that cannot be told: a class of fewer than four photos or clips, too few photos
        for an expected accuracy, or a model that was adapted by gradient.
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
    """The mean over classes of the share of one half that the other names right."""
    contents, classes = personal.contents, len(personal.class_names)
    labels, groups = contents.labels, contents.together
    kept = np.zeros(len(labels), bool)
    for k in range(classes):
        members = draws.permutation(list(dict.fromkeys(groups[labels == k].tolist())))
        kept |= (groups[:, None] == members[: len(members) // 2]).any(1)
    rows, of_rows, photos = contents.rows()
    chosen = kept[photos]
    logits = personal.array_head.fit((rows[chosen], of_rows[chosen], classes))
    answers = logits(contents.features[~kept, 0]).argmax(1)
    weights = even_weights(labels[~kept], classes, groups[~kept])
    return float((weights * (answers == labels[~kept])).sum())
