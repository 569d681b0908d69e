"""Views of a photo: as it is, mirrored, and its middle from nearer. This imports no torch.

`adapt` takes the views of a photo as so many support examples; `classify --careful` takes the mean
of the logits of a query's. What they are worth stands in the card of the shipped model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewshot_lite.core.errors import UsageError

AS_IS, MIRRORED, ZOOMED = "as is", "mirrored", "zoomed"
#: The first is always among them.
VIEWS = (AS_IS, MIRRORED, ZOOMED)
#: Share of the side that `ZOOMED` shows.
_MIDDLE = 0.8
#: From so many photos on, views of them cost more than they tell.
MANY_PHOTOS = 1000

Pixels = npt.NDArray[np.uint8]


def choose_views(number: int | None, mirror: bool | None, photos: int) -> tuple[str, ...]:
    """The views to adapt to.

    Args:
        number: 1 or 3; None: 3, or 1 of `MANY_PHOTOS` and more.
        mirror: whether the mirrored one may be among them; None: it may.
        photos: how many there are.

    Raises:
        UsageError: another number, or mirrored views where there is one.
    """
    if number not in (None, 1, 3):
        raise UsageError(f"--views {number}: give 1 or 3.")
    if number == 1 and mirror:
        raise UsageError("--mirror: there are no mirrored views with --views 1.")
    if number == 1 or (number is None and photos >= MANY_PHOTOS):
        return (AS_IS,)
    return tuple(view for view in VIEWS if view != MIRRORED or mirror is not False)


def recorded_views(provenance: dict[str, Any]) -> tuple[str, ...]:
    """The views that a model's photos were adapted in."""
    found = provenance.get("views")
    known = isinstance(found, list) and found[:1] == [AS_IS] and set(found) <= set(VIEWS)
    return tuple(found) if known and found is not None else (AS_IS,)


def view(pixels: Pixels, name: str) -> Pixels:
    """One view of images (B, 3, S, S), of the same shape."""
    if name == AS_IS:
        return pixels
    if name == MIRRORED:
        return np.ascontiguousarray(pixels[..., ::-1])
    side = pixels.shape[-1]
    cut = round(side * (1 - _MIDDLE) / 2)
    box = (cut, cut, side - cut, side - cut)
    found = np.empty_like(pixels)
    for image, out in zip(pixels, found, strict=True):
        picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        near = picture.resize((side, side), Image.Resampling.BILINEAR, box=box)
        out[...] = np.asarray(near).transpose(2, 0, 1)
    return found


def mean_answers(probabilities: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Probabilities (B, K) from those of each view: the softmax of the mean of their logits."""
    logits = np.mean([np.log(np.maximum(p, 1e-30)) for p in probabilities], axis=0)
    likely = np.exp(logits - logits.max(1, keepdims=True))
    found: npt.NDArray[np.float32] = (likely / likely.sum(1, keepdims=True)).astype(np.float32)
    return found
