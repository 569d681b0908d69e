"""Add photos to present classes, and new classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fewshot_lite.core.config import switches_checked
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.progress import OnDone
from fewshot_lite.images.bit_depths import find_whites, recorded_whites
from fewshot_lite.images.folders import Skipped
from fewshot_lite.images.inputs import Photo
from fewshot_lite.images.photo import place_of
from fewshot_lite.images.videos import check_frames
from fewshot_lite.personal.editing.additions import (
    Additions,
    find_additions,
    label_additions,
    with_frames,
)
from fewshot_lite.personal.editing.arranging import Placed, arrange, placed
from fewshot_lite.personal.editing.edits import (
    Duplicate,
    Edit,
    NothingNew,
    check_photos_may_change,
)
from fewshot_lite.personal.editing.names import check_name
from fewshot_lite.personal.embedding import Embedded, embed_photos
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.support import distinct_names

#: Photos that are compared with all others at a time.
_CHUNK = 256
#: Features this close, relative to their norm, are of the same pixels. Measured at 96 px: the same
#: photo in another batch 4e-7, saved again as JPEG at quality 98 from 1e-3 up, other photos of the
#: same thing 0.07 and more.
_SAME = 5e-4


@switches_checked
def add(
    personal: PersonalModel,
    photos: str | Path | Iterable[Photo],
    name: str | None = None,
    *,
    labels: Iterable[object] | None = None,
    frames: int | None = None,
    strict: bool = False,
    on_done: OnDone | None = None,
    on_embedded: OnDone | None = None,
) -> Edit:
    """Add photos to present classes, and new classes.

    Args:
        personal: the model; it is not changed.
        photos: a folder, or a ZIP archive, of class folders; or, with a name, photos or folders of
            photos; or, with labels, photos in any forms (`images.inputs.Photo`). Videos count as
            photos.
        name: the class of all photos.
        labels: a class for each of the photos.
        frames: frames to draw from each video, as for `MetaModel.adapt`.
        strict: fail if a file is skipped, or a class of which no photo can be read.
        on_done: called with (photos decoded, photos in all).
        on_embedded: called with (photos that went through the network, photos in all).

    Raises:
        UsageError: a path that is missing, or needs a name; an invalid class name; a model that was
            adapted by gradient.
        FewshotError: something was skipped, and `strict` is set.
        NothingNew: the model has all of the photos already.
    """
    check_photos_may_change(personal)
    if labels is not None:
        if name is not None or isinstance(photos, str | Path):
            raise UsageError("labels: for a list of photos without a name for all of them.")
        additions = label_additions(photos, labels)
    else:
        listed = [photos] if isinstance(photos, str | Path) else list(photos)
        paths = [Path(path) for path in listed if isinstance(path, str | Path)]
        if len(paths) < len(listed):
            raise UsageError("photos: with paths a name will do; in other forms they need labels.")
        if not paths:
            raise FewshotError("photos: none were given.")
        if name is not None and name not in personal.class_names:
            check_name(name, personal.class_names)
        additions = find_additions(paths, name, personal.class_names)
    names = list(personal.class_names)
    if labels is not None:
        distinct_names([*names, *(label for label, _ in additions.homes)])
    else:
        for label, _ in additions.homes:
            if label not in personal.class_names:
                check_name(label, names)
                names.append(label)
    if frames is not None:
        check_frames(frames)
    images = with_frames(additions.photos, personal.image_size, frames)
    sources = [image.source for image in images]
    whites = find_whites(sources, recorded_whites(personal.provenance))
    embedded = embed_photos(personal, sources, whites, on_done=on_done, on_embedded=on_embedded)
    read, places, skipped = list[Placed](), list[str](), list(additions.skipped)
    for image, outcome in zip(images, embedded, strict=True):
        if isinstance(outcome, str):
            skipped.append(Skipped(place_of(image.source), outcome))
        else:
            read.append(Placed(image.label, image.name, outcome, clip=image.clip))
            places.append(str(image.source))
    skipped.sort(key=lambda item: str(item.path))
    skipped += _without_photos(personal, additions, {photo.label for photo in read}, skipped)
    if strict and skipped:
        raise FewshotError(f"{skipped[0].path}: {skipped[0].reason}; --strict allows no such file.")
    return add_placed(personal, read, places, skipped)


def add_features(
    personal: PersonalModel, features: Tensor, labels: Sequence[str], photos: Sequence[str]
) -> Edit:
    """Add photos by their features.

    Args:
        personal: the model; it is not changed.
        features: (M, d), or (M, V, d) of each view that the model has (`personal.views`), by the
            model's network.
        labels: M class names.
        photos: M names of the photos; one that the model has already is numbered.

    Raises:
        UsageError, FewshotError, ValueError: as `add_placed`.
    """
    features = features.to(personal.views)
    rows = map(Embedded, features if features.ndim == 3 else features[:, None])
    return add_placed(personal, list(map(Placed, labels, photos, rows)), photos)


def add_placed(
    personal: PersonalModel,
    photos: Sequence[Placed],
    paths: Sequence[str],
    skipped: Iterable[Skipped] = (),
) -> Edit:
    """Add photos that were embedded by the model's network.

    Args:
        personal: the model; it is not changed.
        photos: M new photos; a name that the model has already is numbered. Their thumbnails are
            dropped if the model has none.
        paths: M paths that duplicates are reported by.
        skipped: files that were not read, for the result.

    Raises:
        UsageError: a model that was adapted by gradient.
        FewshotError: all are duplicates, or all of a new class; features that are not finite.
        ValueError: features of another number of views.
    """
    check_photos_may_change(personal)
    features = torch.stack([photo.embedded.features for photo in photos])
    if features.shape[1] != personal.views.shape[1]:
        raise ValueError(f"{features.shape[1]} views of {personal.views.shape[1]}")
    if not bool(features.isfinite().all()):
        raise FewshotError(
            "The model's values for these photos are not finite: it is damaged. Adapt anew."
        )
    chosen = placed(personal)
    candidates = [*chosen, *photos]
    kept, duplicates = list[Placed](), list[Duplicate]()
    originals = _find_duplicates(personal.features, features[:, 0])
    for photo, path, original in zip(photos, paths, originals, strict=True):
        if original is None:
            kept.append(photo)
        else:
            same = candidates[original]
            duplicates.append(Duplicate(path, same.name, same.label, photo.label))
    new = tuple(sorted({photo.label for photo in photos} - set(personal.class_names)))
    added = Counter(photo.label for photo in kept)
    for label in new:
        if not added[label]:
            twice = next(duplicate for duplicate in duplicates if duplicate.wanted == label)
            raise FewshotError(
                f"{label!r}: has no photo of its own: {twice.path} is {twice.photo!r} of "
                f"{twice.label!r}. To give a class another name, use rename."
            )
    if not kept:
        raise NothingNew(duplicates)
    taken = {photo.name for photo in chosen}
    for photo in kept:
        picture = photo.embedded.thumbnail if personal.thumbnails else b""
        name = _free_name(photo.name, taken)
        embedded = replace(photo.embedded, thumbnail=picture)
        chosen.append(replace(photo, name=name, embedded=embedded))
        taken.add(name)
    model = arrange(personal, chosen, {"add": dict(added)})
    return Edit(model, dict(added), new, tuple(skipped), tuple(duplicates))


def _without_photos(
    personal: PersonalModel, additions: Additions, read: Set[str], skipped: Sequence[Skipped]
) -> list[Skipped]:
    """Return the new classes without a readable photo, which are left out.

    Args:
        read: classes of which some photo was read.

    Raises:
        FewshotError: no class has a readable photo.
    """
    empty = []
    for label, home in additions.homes:
        if label in read or (label in personal.class_names and read):
            continue
        why = next((s for s in skipped if s.path == home or home in s.path.parents), None)
        detail = f" ({why.path.name}: {why.reason})" if why else ""
        reason = f"no photo in it can be read{detail}"
        if why is not None and why.path == home:  # it is named already
            reason = why.reason
        else:
            empty.append(Skipped(home, f"{reason}: left out"))
        if not read:
            raise FewshotError(f"{home}: {reason}.")
    return empty


def _find_duplicates(old: Tensor, new: Tensor) -> list[int | None]:
    """Return for each new row (M, d) the index of the earlier row that it repeats, if any.

    Earlier rows are the old ones (N, d), with indices from 0, and new ones before, from N.
    """
    rows = torch.cat([old, new]).cpu()
    indices = torch.arange(len(rows))
    originals: list[int | None] = []
    for part in indices[len(old) :].split(_CHUNK):
        # A matrix product would leave small distances to rounding.
        distances = torch.cdist(rows[part], rows, compute_mode="donot_use_mm_for_euclid_dist")
        near = distances <= _SAME * rows[part].norm(dim=1, keepdim=True)
        near &= indices < part[:, None]
        first, any_near = near.float().argmax(dim=1).tolist(), near.any(dim=1).tolist()
        originals += [i if hit else None for i, hit in zip(first, any_near, strict=True)]
    return originals


def _free_name(name: str, taken: set[str]) -> str:
    """Number a name if it is taken: other photos may have the same file name."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name} ({number})"
    return candidate
