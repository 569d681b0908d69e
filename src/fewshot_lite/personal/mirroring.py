"""Decide whether mirrored views help or confuse classes; this does not import torch."""

from __future__ import annotations

import numpy as np

from fewshot_lite.heads.array_head import ArrayHead
from fewshot_lite.heads.calibration import leave_one_out_accuracy
from fewshot_lite.heads.in_numpy import Array, Support
from fewshot_lite.personal.views import MIRRORED

#: Mirrored views are dropped if that raises the leave-one-out accuracy by more than this.
_MARGIN = 0.03


def without_mirrored(
    head: ArrayHead, support: Support, groups: Array, names: tuple[str, ...]
) -> Array | None:
    """Return the rows to keep, bool (N V,), if mirrored views should be dropped; else None.

    They should be if the leave-one-out accuracy is clearly better without them, as where classes
    are mirror images of each other.

    Args:
        head: calibrated on all views.
        support: features (N V, d), labels (N V,) and K; the views of a photo are consecutive.
        groups: int64 (N V,), rows of one number are left out together (`heads.groups`).
        names: the V views.
    """
    features, labels, classes = support
    kept = np.tile(np.array([name != MIRRORED for name in names]), len(labels) // len(names))
    margin = max(_MARGIN, 1.5 / len(set(groups.tolist())))  # two photos at least
    before = leave_one_out_accuracy(head, support, groups)
    after = leave_one_out_accuracy(head, (features[kept], labels[kept], classes), groups[kept])
    return kept if after > before + margin else None
