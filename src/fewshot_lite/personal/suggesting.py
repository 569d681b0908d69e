"""Suggest which unlabelled photos to label next (active learning).

Photos are chosen one by one, by the product of three numbers: the model's uncertainty (the root of
one minus the margin between the two likeliest classes); the distance from labelled and chosen
photos (k-center; Sener and Savarese, "Active Learning for Convolutional Neural Networks: A
Core-Set Approach", ICLR 2018), so that not all copies of a photo are chosen; and the density around
the photo (typicality; Hacohen et al., "Active Learning on a Budget", ICML 2022), as with few labels
typical photos tell most.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import as_path, check_new_folder, failing_as
from fewshot_lite.images.bit_depths import recorded_whites, with_whites
from fewshot_lite.images.decoding import digest_of
from fewshot_lite.images.folders import Skipped
from fewshot_lite.images.kinds import NOT_ASKED_FOR
from fewshot_lite.images.photo import Source, file_of
from fewshot_lite.images.prefetch import decoded_batches
from fewshot_lite.images.regions import Region
from fewshot_lite.personal.bulk.inputs import find_photos
from fewshot_lite.personal.bulk.sorting import file_name, folder_names
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.prediction import UNKNOWN
from fewshot_lite.personal.with_photos import check_personal

#: The most photos to choose from: each is compared with all others.
MOST_PHOTOS = 20_000
#: Nearest neighbours that typicality is measured by.
_NEIGHBOURS = 10
#: Photos compared with the others at a time.
_CHUNK = 1024


@dataclass(frozen=True)
class Suggestion:
    """A photo to label."""

    path: Path | None
    """Its file; None if it was given in another form."""
    index: int
    """Its index among the photos that were given."""
    label: str
    """The model's answer: the likeliest class, or `UNKNOWN`."""
    nearest: str
    """The likeliest class."""
    probability: float
    """The probability of the likeliest class."""
    other: str
    """The second likeliest class."""
    margin: float
    """The difference of their probabilities: 0 where the model cannot decide."""


@dataclass(frozen=True)
class Suggestions:
    """Photos to label, the most useful first."""

    photos: tuple[Suggestion, ...]
    looked_at: int
    """Photos that were chosen from."""
    known: int
    """Further photos that the model was adapted to, whose labels it has."""
    skipped: tuple[Skipped, ...]


def suggest(
    personal: PersonalModel,
    photos: str | Path | Iterable[str | Source | Skipped],
    number: int = 10,
    *,
    reject: float = 0.05,
    on_done: Callable[[int, int | None], None] | None = None,
) -> Suggestions:
    """Choose the photos whose labels would help most.

    Args:
        personal: the model.
        photos: unlabelled photos: a folder, files, or the result of `find_photos`. A video counts
            as one, with the mean of its frames' features. Those that the model was adapted to are
            left out.
        number: the number of photos to choose.
        reject: as for `PersonalModel.classify`.
        on_done: called with (photos embedded, photos in all).

    Raises:
        UsageError: a number below 1.
        FewshotError: no photos, or more than `MOST_PHOTOS`.
    """
    check_personal(personal, PersonalModel)
    if not isinstance(number, Integral) or number < 1:
        raise UsageError(f"--number {number}: at least 1 photo has to be asked for.")
    features, unlabelled, skipped = [personal.features[:0]], list[tuple[int, Path | None]](), []
    position = 0
    digests, known = personal.known_digests, 0
    if isinstance(photos, str | Path):
        photos = find_photos([as_path(photos, "photos")])
    listed = [_source(photo, f"photos[{number}]") for number, photo in enumerate(photos)]
    read, whites = with_whites(listed, recorded_whites(personal.provenance))
    for batch in decoded_batches(read, personal.image_size, whites=whites):
        rows_of = batch.rows()
        for offset, source in enumerate(batch.paths):
            path = file_of(source)
            if offset in batch.problems:
                if batch.problems[offset] not in NOT_ASKED_FOR:
                    skipped.append(Skipped(path or Path(str(source)), batch.problems[offset]))
            elif digests and any(digest_of(p) in digests for p in batch.pixels[rows_of[offset]]):
                known += 1
                del rows_of[offset]
            else:
                unlabelled.append((position + offset, path))
        position += len(batch.paths)
        if len(unlabelled) > MOST_PHOTOS:
            raise FewshotError(f"More than {MOST_PHOTOS:,} photos. Give a part of them.")
        if rows_of:
            embedded = personal.embed(torch.from_numpy(batch.pixels))
            features += [embedded[rows].mean(0, keepdim=True) for rows in rows_of.values()]
        if on_done is not None:
            on_done(position, len(listed))
    if not unlabelled:
        if known:
            raise FewshotError(f"The model has all {known} photos that could be read. Give others.")
        why = f" ({skipped[0].path}: {skipped[0].reason})" if skipped else ""
        raise FewshotError(f"No photo to choose from could be read{why}.")
    rows = torch.cat(features)
    outputs = personal.outputs_of(rows)
    novel = (outputs.strangeness > personal.threshold(reject)).tolist()
    likeliest = outputs.probabilities.topk(2, dim=1)
    suggestions = []
    for row in choose(personal.features, rows, outputs.probabilities, number):
        first, second = likeliest.values[row].tolist()
        name, other = (personal.class_names[k] for k in likeliest.indices[row].tolist())
        label = UNKNOWN if novel[row] else name
        index, path = unlabelled[row]
        suggestions.append(Suggestion(path, index, label, name, first, other, first - second))
    return Suggestions(tuple(suggestions), len(unlabelled), known, tuple(skipped))


def _source(photo: object, name: str) -> Source | Skipped:
    """Return a photo as a source; raise InputError for pixels, whose answer could not name them."""
    if isinstance(photo, Skipped | Region) or hasattr(photo, "read"):
        return cast("Source | Skipped", photo)
    return as_path(photo, name)


def copy_for_sorting(suggestions: Suggestions, class_names: Iterable[str], folder: Path) -> None:
    """Copy suggested photos into a new folder, beside an empty folder for each class.

    Sorted into these by hand, they can be given to `add`, which ignores what is left over. Their
    file names begin with their rank.

    The folder appears when it is complete.

    Raises:
        UsageError: the folder exists, or its parent does not.
        FewshotError: it cannot be written.
    """
    class_names = list(class_names)
    homes = folder_names([*class_names, UNKNOWN])
    check_new_folder(folder, "--copy-into")
    with (
        failing_as(f"--copy-into {folder}"),
        tempfile.TemporaryDirectory(prefix=".fewshot-lite-", dir=folder.parent) as unfinished,
    ):
        new = Path(unfinished) / "folder"
        new.mkdir()
        for name in class_names:
            (new / homes[name]).mkdir()
        for rank, item in enumerate(suggestions.photos, start=1):
            if item.path is not None:
                name = file_name(item.path, before=f"{rank:03d} ")
                shutil.copyfile(item.path, new / name)
        check_new_folder(folder, "--copy-into")
        new.rename(folder)


@torch.no_grad()
def choose(known: Tensor, features: Tensor, probabilities: Tensor, number: int) -> list[int]:
    """Return the rows to label, in the order in which they are chosen.

    Args:
        known: (N, d), features of labelled photos.
        features: (U, d), features of unlabelled photos.
        probabilities: (U, K), among K > 1 classes.
        number: of rows, or U if there are fewer.
    """
    directions = F.normalize(features.float(), dim=1)
    labelled = F.normalize(known.float(), dim=1)
    parts = directions.split(_CHUNK)
    distance = torch.cat([1 - (part @ labelled.T).amax(dim=1) for part in parts])  # to the nearest
    top = probabilities.topk(2, dim=1).values
    uncertainty = (1 - (top[:, 0] - top[:, 1])).clamp(min=1e-6).sqrt()
    value = uncertainty * _typicality(directions)
    chosen: list[int] = []
    for _ in range(min(number, len(features))):
        worth = value * distance.clamp(min=1e-9)
        worth[chosen] = -1
        row = int(worth.argmax())
        chosen.append(row)
        distance = torch.minimum(distance, 1 - directions @ directions[row])
    return chosen


def _typicality(directions: Tensor) -> Tensor:
    """Return one over the mean distance to the nearest neighbours, (U,); 1 for a photo alone."""
    neighbours = min(_NEIGHBOURS, len(directions) - 1)
    if neighbours < 1:
        return directions.new_ones(len(directions))
    parts = []
    for part in directions.split(_CHUNK):
        cosines = (part @ directions.T).topk(neighbours + 1, dim=1).values[:, 1:]  # without itself
        parts.append(1 / (1 - cosines.mean(dim=1)).clamp(min=1e-3))
    return torch.cat(parts)
