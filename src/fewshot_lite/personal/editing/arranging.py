"""A model brought to another choice of photos at once: added, taken out, in other classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.heads.in_numpy import as_array
from fewshot_lite.personal.editing.edits import check_photos_may_change, film_kept, rebuilt
from fewshot_lite.personal.embedding import Embedded
from fewshot_lite.personal.personal_model import PersonalModel


@dataclass(frozen=True)
class Placed:
    """A photo and the class that it is to be in."""

    label: str
    name: str
    """Its name in the model."""
    photo: Embedded
    row: int | None = None
    """Its row in the model as it is; None of a photo that is new to it."""


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
    features = torch.stack([photo.photo.features for photo in chosen])
    if not bool(features.isfinite().all()):
        raise FewshotError("The model's values for a photo are not finite. Adapt anew.")
    together = personal.contents.together
    new = int(together.max()) + 1  # no photo that is new here is a frame of a clip
    groups = [
        new + place if photo.row is None else int(together[photo.row])
        for place, photo in enumerate(chosen)
    ]
    pictures = tuple(photo.photo.thumbnail for photo in chosen)
    contents = replace(
        personal.contents,
        features=as_array(features),
        photos=tuple(photo.name for photo in chosen),
        groups=np.array(groups),
        digests=np.array([photo.photo.digest for photo in chosen], np.int64),
        thumbnails=pictures if any(pictures) else (),
    )
    return rebuilt(
        personal,
        contents,
        [photo.label for photo in chosen],
        film_kept=sum(not is_new(photo) for photo in chosen),
        edit=edit,
    )
