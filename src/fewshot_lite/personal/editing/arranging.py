"""Rebuild a model from another selection of photos: added, removed, or in other classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.heads.in_numpy import as_array
from fewshot_lite.personal.editing.edits import (
    check_photos_may_change,
    film_kept,
    labels_of,
    named,
    rebuilt,
)
from fewshot_lite.personal.embedding import Embedded
from fewshot_lite.personal.personal_model import PersonalModel


@dataclass(frozen=True)
class Placed:
    """A photo with its class in the changed model."""

    label: str
    name: str
    """Its name in the model."""
    embedded: Embedded
    row: int | None = None
    """Its row in the present model; None for a new photo."""
    clip: str = ""
    """Equal for new frames of one clip; empty for a photo."""


def placed(personal: PersonalModel) -> list[Placed]:
    """Return the photos of a model, as they are."""
    contents, number = personal.contents, len(personal.contents.labels)
    digests = [0] * number if contents.digests is None else contents.digests.tolist()
    photos = map(Embedded, personal.views, contents.thumbnails or [b""] * number, digests)
    return list(map(Placed, labels_of(personal), named(personal), photos, range(number)))


def arrange(
    personal: PersonalModel, photos: Sequence[Placed], edit: dict[str, Any]
) -> PersonalModel:
    """Return the model with exactly these photos, and its head adapted to them.

    Args:
        personal: the model; it is not changed.
        photos: photos of two classes at least; the order is kept, but those that FiLM was made from
            come first.
        edit: JSON-able entry of the model's record of its edits.

    Raises:
        UsageError: a model that was adapted by gradient.
        FewshotError: fewer than two classes, or features that are not finite.
    """
    check_photos_may_change(personal)
    if len({photo.label for photo in photos}) < 2:
        raise FewshotError("Photos of one class only: there would be nothing to tell apart.")
    first = film_kept(personal)

    def is_new(photo: Placed) -> bool:
        return photo.row is None or photo.row >= first

    chosen = sorted(photos, key=is_new)
    features = torch.stack([photo.embedded.features for photo in chosen])
    if not bool(features.isfinite().all()):
        raise FewshotError("The model's values for a photo are not finite. Adapt anew.")
    together, clips = personal.contents.together, dict[str, int]()
    new = int(together.max()) + 1
    groups = [
        int(together[photo.row])
        if photo.row is not None
        else new + (clips.setdefault(photo.clip, place) if photo.clip else place)
        for place, photo in enumerate(chosen)
    ]
    known = personal.photos or any(photo.row is None for photo in chosen)
    pictures = tuple(photo.embedded.thumbnail for photo in chosen)
    contents = replace(
        personal.contents,
        features=as_array(features),
        photos=tuple(photo.name for photo in chosen) if known else (),
        groups=np.array(groups),
        digests=np.array([photo.embedded.digest for photo in chosen], np.int64),
        thumbnails=pictures if any(pictures) else (),
    )
    return rebuilt(
        personal,
        contents,
        [photo.label for photo in chosen],
        film_kept=sum(not is_new(photo) for photo in chosen),
        edit=edit,
    )
