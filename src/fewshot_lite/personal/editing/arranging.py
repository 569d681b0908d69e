"""A model brought to another choice of photos at once: added, taken out, in other classes."""

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
    """A photo and the class that it is to be in."""

    label: str
    name: str
    """Its name in the model."""
    embedded: Embedded
    row: int | None = None
    """Its row in the model as it is; None of a photo that is new to it."""
    clip: str = ""
    """What a new photo has in common with other frames of its clip; empty if it is alone."""


def placed(personal: PersonalModel) -> list[Placed]:
    """The photos of a model as they are in it."""
    contents, number = personal.contents, len(personal.contents.labels)
    digests = [0] * number if contents.digests is None else contents.digests.tolist()
    photos = map(Embedded, personal.views, contents.thumbnails or [b""] * number, digests)
    return list(map(Placed, labels_of(personal), named(personal), photos, range(number)))


def arrange(
    personal: PersonalModel, photos: Sequence[Placed], edit: dict[str, Any]
) -> PersonalModel:
    """The model with these photos and no others, as adapting its head to them gives it.

    Args:
        personal: the model; it is not changed.
        photos: of two classes at least. The model's order is theirs, but for those that FiLM was
            made from, which stand first.
        edit: JSON-able, for the model's record of its edits.

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

    chosen = sorted(photos, key=is_new)  # those that FiLM was made from stand first
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
