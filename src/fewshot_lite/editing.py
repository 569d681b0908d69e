"""Classes and photos come and go in a personal model, without the photos it was made from.

FiLM, folded in the network, stays as it is. The model keeps the features of its photos, so that
after any change the head is fitted on those there are: exactly what adapting the head anew on all
of the photos gives. The functions here leave the model as it is and give a changed one, which
shares its network. Photos that FiLM was made from stand before those added later.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot_lite.additions import Additions, find_additions
from fewshot_lite.data.folders import Skipped
from fewshot_lite.data.store import decode
from fewshot_lite.errors import FewshotError, UsageError
from fewshot_lite.learners.base import map_batches
from fewshot_lite.personal import PersonalModel

#: Photos in memory at a time.
_CHUNK = 256
#: Features this near, as a share of their length, are of the same pixels. Measured at 96 px: the
#: same photo in another batch 4e-7, saved again as JPEG at quality 98 from 1e-3 up, other photos of
#: the same thing 0.07 and more.
_SAME = 5e-4
#: Below this share of photos that FiLM was made from, adapting anew is suggested.
_ENOUGH = 0.5
#: Bases (by SHA-256) whose FiLM hardly depends on the photos, so that nothing is gained by it: of
#: the shipped model, with FiLM from a tenth to all of the photos (`benchmarks/editing.py`).
_STEADY = frozenset(["66e7140c0d8b0dbb7e041ffb5ea55ec8901f9e01fa88cb784ad0eee7fe58d377"])
#: Edits that a file remembers.
_HISTORY = 50


@dataclass(frozen=True)
class Duplicate:
    """A photo that was not added: the model has it already."""

    path: str
    photo: str
    """Its name in the model."""
    label: str
    """Its class in the model."""


@dataclass(frozen=True)
class Edit:
    """A changed model, and what was changed."""

    model: PersonalModel
    changes: dict[str, int]
    """Photos more (or, negative, fewer) of each class, where it has others now."""
    new: tuple[str, ...] = ()
    """Classes that were not there before."""
    skipped: tuple[Skipped, ...] = ()
    """Files that were not read, and why."""
    duplicates: tuple[Duplicate, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    """Names that were, and what they are now."""


def add(
    personal: PersonalModel,
    photos: str | Path | Sequence[str | Path],
    name: str | None = None,
    *,
    on_done: Callable[[int, int], None] | None = None,
) -> Edit:
    """Add photos to classes that there are, and new classes.

    Args:
        personal: the model; it is not changed.
        photos: a folder of class folders; or, with a name, photos or folders of photos.
        name: the class that they show.
        on_done: called with (photos decoded, photos in all).

    Raises:
        UsageError: a path that is missing, or needs a name; a class name that will not do.
        FewshotError: nothing to add; a new class of which no photo can be read.
    """
    paths = [Path(photos)] if isinstance(photos, str | Path) else [Path(photo) for photo in photos]
    if name is not None:
        _check_name(name, personal.class_names)
    found = find_additions(paths, name)
    names = list(personal.class_names)
    for label, _ in found.homes:
        _check_name(label, names)
        names.append(label)
    features, good, unread = _embed(personal, found.paths, on_done)
    skipped = sorted((*found.skipped, *unread), key=lambda item: str(item.path))
    _check_read(personal, found, good, skipped)
    return add_features(
        personal,
        features,
        [found.labels[i] for i in good],
        [found.names[i] for i in good],
        paths=[str(found.paths[i]) for i in good],
        skipped=skipped,
    )


def add_features(
    personal: PersonalModel,
    features: Tensor,
    labels: Sequence[str],
    photos: Sequence[str],
    *,
    paths: Sequence[str] | None = None,
    skipped: Iterable[Skipped] = (),
) -> Edit:
    """As `add`, for photos that have gone through the model's network.

    Args:
        features: (M, d).
        labels: M class names.
        photos: M names for the model; one that it has already is numbered.
        paths: M places to name duplicates by; the names unless given.

    Raises:
        FewshotError: all are duplicates, or all of a new class; features that are not finite.
    """
    paths = photos if paths is None else paths
    features = features.to(personal.features)
    if not bool(features.isfinite().all()):
        raise FewshotError(
            "The model's values for these photos are not finite: it is damaged. Adapt anew."
        )
    old_labels = [personal.class_names[k] for k in personal.labels.tolist()]
    names = _named(personal)
    twins = _twins(personal.features, features)
    kept, duplicates = [], []
    all_labels, all_names = [*old_labels, *labels], [*names, *photos]
    for i, twin in enumerate(twins):
        if twin is None:
            kept.append(i)
        else:
            duplicates.append(Duplicate(paths[i], all_names[twin], all_labels[twin]))
    new = tuple(sorted(set(labels) - set(personal.class_names)))
    added = Counter(labels[i] for i in kept)
    for label in new:
        if not added[label]:
            path = next(p for p, of in zip(paths, labels, strict=True) if of == label)
            same = next(duplicate for duplicate in duplicates if duplicate.path == path)
            raise FewshotError(
                f"{label!r}: no new class, its photos are in the model already ({path} is "
                f"{same.photo!r} of {same.label!r}). Use rename, or remove them there first."
            )
    if not kept:
        raise FewshotError(f"Nothing to add: all {len(labels)} photos are in the model already.")
    taken = set(names)
    for i in kept:
        names.append(_free(photos[i], taken))
        taken.add(names[-1])
    model = _rebuilt(
        personal,
        torch.cat([personal.features, features[kept]]),
        [*old_labels, *(labels[i] for i in kept)],
        names,
        film_kept=_film_kept(personal),
        edit={"add": dict(added)},
    )
    return Edit(model, dict(added), new, tuple(skipped), tuple(duplicates))


def remove(
    personal: PersonalModel, classes: Sequence[str] = (), photos: Sequence[str] = ()
) -> Edit:
    """Take out classes, and single photos by their names in the model.

    Raises:
        UsageError: a class or photo that there is not; nothing named.
        FewshotError: fewer than two classes would be left, or a class without photos.
    """
    if not classes and not photos:
        raise UsageError("Name a class to remove, or a photo with --photo.")
    for name in classes:
        _check_known(name, personal.class_names, "class")
    names = _named(personal)
    for name in photos:
        _check_known(name, names, "photo")
    left = [name for name in personal.class_names if name not in classes]
    if len(left) < 2:
        rest = f"only {left[0]!r}" if left else "no class"
        raise FewshotError(
            f"With {rest} left, there would be nothing to tell apart. Add other classes first."
        )
    labels = [personal.class_names[k] for k in personal.labels.tolist()]
    gone = set(photos)
    kept = [i for i, label in enumerate(labels) if label in left and names[i] not in gone]
    for name in left:
        if name not in {labels[i] for i in kept}:
            raise FewshotError(
                f"{name!r}: no photo of it would be left. To remove the class, name it itself."
            )
    removed = Counter(labels)
    removed.subtract(labels[i] for i in kept)
    changes = {name: -number for name, number in removed.items() if number}
    first = _film_kept(personal)
    model = _rebuilt(
        personal,
        personal.features[kept],
        [labels[i] for i in kept],
        [names[i] for i in kept] if personal.photos else (),
        film_kept=sum(i < first for i in kept),
        edit={"remove": {name: -number for name, number in changes.items()}},
    )
    return Edit(model, changes)


def rename(personal: PersonalModel, old: str, new: str) -> Edit:
    """Give a class another name. Its photos keep theirs: they are files.

    Raises:
        UsageError: no such class; a name that is taken or will not do.
    """
    _check_known(old, personal.class_names, "class")
    others = [name for name in personal.class_names if name != old]
    if new in others:
        raise UsageError(f"{new!r}: the model has a class of this name already.")
    if new == old:
        raise UsageError(f"{new!r}: the class has this name already.")
    _check_name(new, others)
    names = [new if name == old else name for name in personal.class_names]
    model = _rebuilt(
        personal,
        personal.features,
        [names[k] for k in personal.labels.tolist()],
        personal.photos,
        film_kept=_film_kept(personal),
        edit={"rename": {old: new}},
    )
    return Edit(model, {}, renamed={old: new})


def film_share(personal: PersonalModel) -> float:
    """The share of the model's photos that FiLM was made from: 1 until others are added."""
    return _film_kept(personal) / len(personal.labels)


def worth_readapting(personal: PersonalModel) -> bool:
    """Whether adapting anew on all photos may be worth it: FiLM is from less than half of them.

    The task embedding is a mean over photos, so the share is how far it can have moved.
    """
    base = _recorded(personal, "base", {}).get("sha256")
    return film_share(personal) < _ENOUGH and base not in _STEADY


def _rebuilt(
    personal: PersonalModel,
    features: Tensor,
    labels: Sequence[str],
    photos: Sequence[str],
    *,
    film_kept: int,
    edit: dict[str, Any],
) -> PersonalModel:
    """The model with other photos; classes in alphabetical order, as `adapt` has them."""
    names = tuple(sorted(set(labels)))
    number = {name: k for k, name in enumerate(names)}
    film = _recorded(personal, "film", {"made_from": len(personal.labels)})
    date = datetime.now(UTC).isoformat(timespec="seconds")
    history = [*_recorded(personal, "edits", []), {"date": date, **edit}]
    return PersonalModel(
        personal.backbone,
        personal.head,
        features,
        torch.tensor([number[label] for label in labels], device=personal.labels.device),
        names,
        personal.image_size,
        {
            **personal.provenance,
            "film": {**film, "still_here": film_kept},
            "edits": history[-_HISTORY:],
        },
        tuple(photos),
    )


def _film_kept(personal: PersonalModel) -> int:
    """How many of the model's photos FiLM was made from; they are the first."""
    number = len(personal.labels)
    still_here = _recorded(personal, "film", {}).get("still_here")
    return min(number, max(0, still_here)) if isinstance(still_here, int) else number


def _recorded(personal: PersonalModel, key: str, default: Any) -> Any:
    """An entry of the model's record, unless it is of another type than it has to be."""
    value = personal.provenance.get(key)
    return value if isinstance(value, type(default)) else default


def _named(personal: PersonalModel) -> list[str]:
    """The photos' names; where the model does not know them, their class and number in it."""
    if personal.photos:
        return list(personal.photos)
    seen: Counter[int] = Counter()
    names = []
    for k in personal.labels.tolist():
        seen[k] += 1
        names.append(f"{personal.class_names[k]}/#{seen[k]}")
    return names


def _embed(
    personal: PersonalModel,
    paths: Sequence[Path],
    on_done: Callable[[int, int], None] | None,
) -> tuple[Tensor, list[int], list[Skipped]]:
    """Features (M, d) of the photos that can be read, their positions, and those that cannot."""
    features = [personal.features[:0]]
    good: list[int] = []
    unread: list[Skipped] = []
    for start in range(0, len(paths), _CHUNK):
        chunk = paths[start : start + _CHUNK]

        def done(count: int, start: int = start) -> None:
            if on_done is not None:
                on_done(start + count, len(paths))

        images, problems = decode(chunk, personal.image_size, on_done=done)
        unread += [Skipped(chunk[i], why) for i, why in problems.items()]
        read = [i for i in range(len(chunk)) if i not in problems]
        if read:
            with torch.no_grad():
                x = images[read].to(personal.features.device)
                features.append(map_batches(personal.backbone, x, 64))
        good += [start + i for i in read]
    return torch.cat(features), good, unread


def _check_read(
    personal: PersonalModel, found: Additions, good: Sequence[int], skipped: Sequence[Skipped]
) -> None:
    """As `adapt`, refuse a class of which nothing can be read, if it is a new one."""
    read = {found.labels[i] for i in good}
    for label, home in found.homes:
        if label not in read and (label not in personal.class_names or not read):
            why = next((s for s in skipped if s.path == home or home in s.path.parents), None)
            if why is not None and why.path == home:
                raise FewshotError(f"{home}: {why.reason}.")
            detail = f" ({why.path.name}: {why.reason})" if why else ""
            raise FewshotError(
                f"{home}: no photo in it can be read{detail}. Put photos in, or remove the folder."
            )


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


def _check_known(name: str, known: Sequence[str], what: str) -> None:
    if name in known:
        return
    close = get_close_matches(name, known, n=1)
    hint = f" Is it {close[0]!r}?" if close else f" It has {_some(known)}."
    raise UsageError(f"{name!r}: the model has no {what} of this name.{hint}")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _check_name(name: str, others: Iterable[str]) -> None:
    """Refuse what could not be a class folder's name, and names that cannot be told apart."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{name!r}: not valid Unicode. Give the class another name.") from None
    if not name.strip() or name in (".", "..") or "/" in name or "\0" in name:
        raise UsageError(f"{name!r}: no name for a class: it has to do for a folder.")
    key = unicodedata.normalize("NFC", name).lower()
    for other in others:
        if other != name and unicodedata.normalize("NFC", other).lower() == key:
            raise UsageError(
                f"{name!r} and the model's class {other!r} differ only in case or in how accents "
                "are stored. Spell them alike."
            )
