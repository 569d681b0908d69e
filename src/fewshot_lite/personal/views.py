"""Views of a photo: as it is, mirrored, and zoomed in on its middle; this does not import torch.

`adapt` takes each view of a photo as a support image; `classify --careful` averages the logits of
the views of a query. The card of the shipped model says what they gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewshot_lite.core.errors import UsageError
from fewshot_lite.heads.array_head import ArrayHead
from fewshot_lite.heads.calibration import leave_one_out_accuracy
from fewshot_lite.heads.in_numpy import Array, Support

AS_IS, MIRRORED, ZOOMED = "as is", "mirrored", "zoomed"
#: All views; the first is always used.
VIEWS = (AS_IS, MIRRORED, ZOOMED)
#: Share of the side that `ZOOMED` shows.
_MIDDLE = 0.8
#: From this number of photos on, further views cost more than they gain.
MANY_PHOTOS = 1000
#: Mirrored views are dropped if that raises the leave-one-out accuracy by more than this.
_MARGIN = 0.03

Pixels = npt.NDArray[np.uint8]


def choose_views(number: int | None, mirror: bool | None, photos: int) -> tuple[str, ...]:
    """Choose the views to adapt to.

    Args:
        number: 1 or 3; None: 3, or 1 for `MANY_PHOTOS` and more.
        mirror: whether the mirrored one may be among them; None: it may.
        photos: the number of photos.

    Raises:
        UsageError: another number, or mirrored views where there is one.
    """
    if number not in (None, 1, 3):
        raise UsageError(f"--views {number}: give 1 or 3.")
    if number == 1 and mirror:
        raise UsageError("--mirror: there are no mirrored views with --views 1.")
    if number == 1 or (number is None and photos >= MANY_PHOTOS):
        return (AS_IS,)
    return tuple(view for view in VIEWS if view != MIRRORED or mirror is None or mirror)


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


def recorded_views(provenance: dict[str, Any]) -> tuple[str, ...]:
    """Return the views that a model was adapted to."""
    views = provenance.get("views")
    if isinstance(views, list) and views[:1] == [AS_IS] and set(views) <= set(VIEWS):
        return tuple(views)
    return (AS_IS,)


def view(pixels: Pixels, name: str) -> Pixels:
    """Return one view of images (B, 3, S, S), in the same shape."""
    if name == AS_IS:
        return pixels
    if name == MIRRORED:
        return np.ascontiguousarray(pixels[..., ::-1])
    side = pixels.shape[-1]
    cut = round(side * (1 - _MIDDLE) / 2)
    box = (cut, cut, side - cut, side - cut)
    zoomed = np.empty_like(pixels)
    for image, out in zip(pixels, zoomed, strict=True):
        picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        near = picture.resize((side, side), Image.Resampling.BILINEAR, box=box)
        out[...] = np.asarray(near).transpose(2, 0, 1)
    return zoomed


def mean_answers(probabilities: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Average probabilities (B, K) over views: the softmax of the mean of their logits."""
    logits = np.mean([np.log(np.maximum(p, 1e-30)) for p in probabilities], axis=0)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    mean: npt.NDArray[np.float32] = (odds / odds.sum(1, keepdims=True)).astype(np.float32)
    return mean
