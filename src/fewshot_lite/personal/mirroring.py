"""Whether mirrored views tell classes apart or mix them up; this does not import torch."""

from __future__ import annotations

import numpy as np

from fewshot_lite.heads.array_head import ArrayHead
from fewshot_lite.heads.calibration import leave_one_out_accuracy
from fewshot_lite.heads.in_numpy import Array, Support
from fewshot_lite.personal.views import MIRRORED

#: Mirrored views are left out of adapting if photos left out are named better by this share.
_MARGIN = 0.03


def without_mirrored(
    head: ArrayHead, support: Support, groups: Array, names: tuple[str, ...]
) -> Array | None:
    """The rows to keep if mirrored views should be left out, bool (N V,); None if they should not.

    They should where the photos are then clearly named better when each is left out, as where
    classes are each other's mirror images.

    Args:
        head: fitted with all views.
        support: features (N V, d), labels (N V,) and K; the views of a photo together.
        groups: int64 (N V,), what is left out together (`heads.groups`).
        names: the V views.
    """
    features, labels, classes = support
    number = len(labels) // len(names)
    kept = np.tile(np.array([name != MIRRORED for name in names]), number)
    given = (features[kept], labels[kept], classes), groups[kept]
    margin = max(_MARGIN, 1.5 / len(set(groups.tolist())))  # two photos at least
    before = leave_one_out_accuracy(head, support, groups)
    return kept if leave_one_out_accuracy(head, *given) > before + margin else None
