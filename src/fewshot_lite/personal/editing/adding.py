"""Photos are added to classes that there are, and new classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

import torch
from torch import Tensor

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.progress import OnDone
from fewshot_lite.images.bit_depths import find_whites, recorded_whites
from fewshot_lite.images.folders import Skipped
from fewshot_lite.images.inputs import Photo
from fewshot_lite.images.photo import place_of
from fewshot_lite.images.videos import check_frames
from fewshot_lite.personal.editing.additions import (
    Addition,
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
#: Features this near, as a share of their length, are of the same pixels. Measured at 96 px: the
#: same photo in another batch 4e-7, saved again as JPEG at quality 98 from 1e-3 up, other photos of
#: the same thing 0.07 and more.
_SAME = 5e-4


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
    """Add photos to classes that there are, and new classes.

    Args:
        personal: the model; it is not changed.
        photos: a folder, or a ZIP archive, of class folders; or, with a name, photos or folders of
            photos; or, with labels, photos in any forms (`images.inputs.Photo`). Videos count as
            photos.
        name: the class that they show.
        labels: a class for each of the photos.
        frames: that are drawn of each video, as for `MetaModel.adapt`.
        strict: fail if a file is skipped, or a class left out of which no photo can be read.
        on_done: called with (photos decoded, photos in all).
        on_embedded: called with (photos that went through the network, photos in all).

    Raises:
        UsageError: a path that is missing, or needs a name; a class name that will not do; a model
            that was adapted by gradient.
        FewshotError: something was skipped, and `strict` is set.
        NothingNew: the model has all of the photos already.
    """
    check_photos_may_change(personal)
    if labels is not None:
        if name is not None or isinstance(photos, str | Path):
            raise UsageError("labels: for a list of photos without a name for all of them.")
        found = label_additions(photos, labels)
    else:
        paths = [photos] if isinstance(photos, str | Path) else photos
        if name is not None:
            check_name(name, personal.class_names)
        found = find_additions([Path(path) for path in paths], name)  # type: ignore[arg-type]
    names = list(personal.class_names)
    for label, _ in found.homes if labels is None else ():
        check_name(label, names)
        names.append(label)
    if labels is not None:
        distinct_names([*names, *(label for label, _ in found.homes)])
    if frames is not None:
        check_frames(frames)
    every = with_frames(found.photos, personal.image_size, frames)
    sources = [photo.source for photo in every]
    whites = find_whites(sources, recorded_whites(personal.provenance))
    embedded = embed_photos(personal, sources, whites, on_done=on_done, on_embedded=on_embedded)
    kept, read, skipped = list[Embedded](), list[Addition](), list(found.skipped)
    for photo, outcome in zip(every, embedded, strict=True):
        if isinstance(outcome, str):
            skipped.append(Skipped(place_of(photo.source), outcome))
        else:
            read.append(photo)
            kept.append(outcome)
    skipped.sort(key=lambda item: str(item.path))
    skipped += _without_photos(personal, found, {photo.label for photo in read}, skipped)
    if strict and skipped:
        raise FewshotError(f"{skipped[0].path}: {skipped[0].reason}; --strict allows no such file.")
    return add_features(
        personal,
        torch.cat([personal.views[:0], *(one.features[None] for one in kept)]),
        [photo.label for photo in read],
        [photo.name for photo in read],
        paths=[str(photo.source) for photo in read],
        thumbnails=[one.thumbnail for one in kept],
        groups=_clip_numbers(read),
        digests=[one.digest for one in kept],
        skipped=skipped,
    )


def add_features(
    personal: PersonalModel,
    features: Tensor,
    labels: Sequence[str],
    photos: Sequence[str],
    *,
    paths: Sequence[str] | None = None,
    thumbnails: Sequence[bytes] = (),
    groups: Sequence[int] | None = None,
    digests: Sequence[int] | None = None,
    skipped: Iterable[Skipped] = (),
) -> Edit:
    """As `add`, for photos that have gone through the model's network.

    Args:
        features: (M, d), or (M, V, d) of each view that the model has (`personal.views`).
        labels: M class names.
        photos: M names for the model; one that it has already is numbered.
        paths: M places to name duplicates by; the names unless given.
        thumbnails: M small pictures (`images.thumbnails`), or none; a model without any takes none.
        groups: M numbers, one for the frames of a clip; None if each photo is alone.
        digests: M, by which `classify` knows them again (`images.decoding.digest_of`), if known.

    Raises:
        UsageError: a model that was adapted by gradient.
        FewshotError: all are duplicates, or all of a new class; features that are not finite.
        ValueError: features of another number of views.
    """
    check_photos_may_change(personal)
    paths = photos if paths is None else paths
    features, old = _checked(features, personal.views), placed(personal)
    all_labels = [*(photo.label for photo in old), *labels]
    all_names = [*(photo.name for photo in old), *photos]
    kept, duplicates = [], []
    for i, twin in enumerate(_twins(personal.features, features[:, 0])):
        if twin is None:
            kept.append(i)
        else:
            duplicates.append(Duplicate(paths[i], all_names[twin], all_labels[twin], labels[i]))
    new = tuple(sorted(set(labels) - set(personal.class_names)))
    added = Counter(labels[i] for i in kept)
    _check_own_photos(new, added, dict(zip(labels[::-1], paths[::-1], strict=True)), duplicates)
    if not kept:
        raise NothingNew(duplicates)
    taken = {photo.name for photo in old}
    for i in kept:
        picture = thumbnails[i] if thumbnails and personal.thumbnails else b""
        photo = Embedded(features[i], picture, 0 if digests is None else digests[i])
        clip = None if groups is None else groups[i]
        old.append(Placed(labels[i], _free(photos[i], taken), photo, clip=clip))
        taken.add(old[-1].name)
    model = arrange(personal, old, {"add": dict(added)})
    return Edit(model, dict(added), new, tuple(skipped), tuple(duplicates))


def _checked(features: Tensor, views: Tensor) -> Tensor:
    """Features (M, V, d) for a model of these views (N, V, d)."""
    features = features.to(views)
    features = features if features.ndim == 3 else features[:, None]
    if features.shape[1] != views.shape[1]:
        raise ValueError(f"{features.shape[1]} views of {views.shape[1]}")
    if not bool(features.isfinite().all()):
        raise FewshotError(
            "The model's values for these photos are not finite: it is damaged. Adapt anew."
        )
    return features


def _check_own_photos(
    new: Iterable[str], added: Counter[str], path_of: Mapping[str, str], found: Sequence[Duplicate]
) -> None:
    """Refuse a new class that has duplicates alone.

    Args:
        new: the new classes.
        added: photos of each class that are no duplicates.
        path_of: a photo of each class.
        found: the duplicates.
    """
    for label in new:
        if not added[label]:
            path = path_of[label]
            same = next(duplicate for duplicate in found if duplicate.path == path)
            raise FewshotError(
                f"{label!r}: has no photo of its own: {path} is {same.photo!r} of {same.label!r}. "
                "To give a class another name, use rename."
            )


def _clip_numbers(photos: Sequence[Addition]) -> list[int]:
    """One number for the frames of each clip, and one for each photo."""
    numbers: dict[str, int] = {}
    return [
        numbers.setdefault(photo.clip or f"photo {place}", len(numbers))
        for place, photo in enumerate(photos)
    ]


def _without_photos(
    personal: PersonalModel, found: Additions, read: Set[str], skipped: Sequence[Skipped]
) -> list[Skipped]:
    """New classes of which no photo can be read, which are left out.

    Args:
        read: classes of which some photo was read.

    Raises:
        FewshotError: there are none.
    """
    empty = []
    for label, home in found.homes:
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


def _twins(old: Tensor, new: Tensor) -> list[int | None]:
    """For each new row (M, d) the row that it repeats, of the old ones (N, d) and new ones before.

    New rows are counted from N.
    """
    every = torch.cat([old, new]).cpu()
    positions = torch.arange(len(every))
    found: list[int | None] = []
    for start in range(0, len(new), _CHUNK):
        rows = every[len(old) + start :][:_CHUNK]
        # Not by way of a product of matrices, which leaves small distances to rounding.
        distances = torch.cdist(rows, every, compute_mode="donot_use_mm_for_euclid_dist")
        mine = len(old) + start + torch.arange(len(rows))
        near = distances <= _SAME * rows.norm(dim=1, keepdim=True)
        near &= positions < mine[:, None]
        first = near.float().argmax(dim=1)
        found += [int(first[i]) if hit else None for i, hit in enumerate(near.any(dim=1).tolist())]
    return found


def _free(name: str, taken: set[str]) -> str:
    """The name, or the name numbered if it is taken: other photos may have the same file name."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name} ({number})"
    return candidate
