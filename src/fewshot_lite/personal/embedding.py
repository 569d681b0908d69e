"""Embed photos as a personal model stores them: the features of each view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot_lite.core.progress import OnDone
from fewshot_lite.images.decoding import decode_pixels, digest_of
from fewshot_lite.images.photo import Source, Whites
from fewshot_lite.images.thumbnails import make_thumbnails
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.views import recorded_views, view

#: Photos in memory at a time.
_CHUNK = 64


@dataclass(frozen=True)
class Embedded:
    """A photo as a personal model stores it."""

    features: Tensor
    """(V, d), of each view that the model's photos have (`personal.views`)."""
    thumbnail: bytes = b""
    """A small JPEG (`images.thumbnails`); empty if there is none."""
    digest: int = 0
    """Identifies the photo (`images.decoding.digest_of`); 0 if unknown."""


def embed_photos(
    personal: PersonalModel,
    photos: Sequence[Source],
    whites: Whites,
    *,
    on_done: OnDone | None = None,
    on_embedded: OnDone | None = None,
) -> list[Embedded | str]:
    """Embed photos in the views of a model; return for each the result, or why it has none.

    Args:
        personal: the model.
        photos: files, or images in other forms.
        whites: as for `read_square`; see `images.bit_depths`.
        on_done: called with (photos decoded, photos in all).
        on_embedded: called with (photos that went through the network, photos in all).
    """
    results: list[Embedded | str] = []
    names, total = recorded_views(personal.provenance), len(photos)
    for start in range(0, total, _CHUNK):

        def done(count: int, start: int = start) -> None:
            if on_done is not None:
                on_done(start + count, total)

        chunk = photos[start : start + _CHUNK]
        pixels, problems = decode_pixels(chunk, personal.image_size, on_done=done, whites=whites)
        pixels = pixels[[i for i in range(len(chunk)) if i not in problems]]
        views = [torch.from_numpy(view(pixels, name)) for name in names if len(pixels)]
        rows = torch.stack([personal.embed(images) for images in views], 1) if views else ()
        embedded = map(Embedded, rows, make_thumbnails(pixels), map(digest_of, pixels))
        results += [problems[i] if i in problems else next(embedded) for i in range(len(chunk))]
        if on_embedded is not None:
            on_embedded(start + len(chunk), total)
    return results
