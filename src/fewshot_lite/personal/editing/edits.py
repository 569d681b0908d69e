"""An edit of a personal model, and the model's record of its edits.

Photos that FiLM was made from come before those added later, so their number says which they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.heads.base import Head, SupportSet
from fewshot_lite.heads.in_numpy import as_array
from fewshot_lite.images.folders import Skipped
from fewshot_lite.personal.file_contents import Contents
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.with_photos import check_personal

#: The share of photos that FiLM was made from below which adapting anew is suggested.
_ENOUGH = 0.5
#: The most edits in a file's record.
_HISTORY = 50


@dataclass(frozen=True)
class Duplicate:
    """A photo that was not added, as the model has it already."""

    path: str
    photo: str
    """Its name in the model."""
    label: str
    """Its class in the model."""
    wanted: str
    """The class that it was to be added to."""


class NothingNew(FewshotError):
    """All photos to add are in the model already."""

    def __init__(self, duplicates: Sequence[Duplicate]) -> None:
        first = duplicates[0]
        other = any(item.label != item.wanted for item in duplicates)
        number = len(duplicates)
        which = "the photo is" if number == 1 else f"all {number} photos are"
        super().__init__(
            f"Nothing to add: {which} in the model already, {first.path} as {first.photo!r} of "
            f"{first.label!r}.{' To give photos another class, remove them first.' * other}"
        )
        self.duplicates = tuple(duplicates)


@dataclass(frozen=True)
class Edit:
    """A changed model, and what was changed."""

    model: PersonalModel
    changes: dict[str, int]
    """Photos added to each class (negative: removed), where there are any."""
    new: tuple[str, ...] = ()
    """New classes."""
    skipped: tuple[Skipped, ...] = ()
    """Files that were not read, and why."""
    duplicates: tuple[Duplicate, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    """Old to new names of classes."""


def film_share(personal: PersonalModel) -> float:
    """Return the share of the model's photos that FiLM was made from: 1 until others are added."""
    return film_kept(personal) / len(personal.contents.labels)


def worth_readapting(personal: PersonalModel) -> bool:
    """Whether adapting anew may be worth it, as FiLM is from less than half of the photos.

    The task embedding is a mean over photos, so the share bounds how far it can have moved.
    """
    return film_share(personal) < _ENOUGH


def check_photos_may_change(personal: PersonalModel) -> None:
    """Raise a UsageError unless it is a model that gradient steps on its photos did not adapt."""
    check_personal(personal, PersonalModel)
    if personal.adapted_by_gradient:
        base = _recorded(personal, "base", {}).get("name", "not recorded")
        raise UsageError(
            "MODEL: was made by gradient steps on all of its photos, so that none can be added or "
            f"taken out. Adapt anew to all that it should have; its base was {base}."
        )


def rebuilt(
    personal: PersonalModel,
    contents: Contents,
    labels: Sequence[str],
    *,
    film_kept: int,
    edit: dict[str, Any],
) -> PersonalModel:
    """Return the model with other photos; classes are in alphabetical order, as after `adapt`.

    For a model that was adapted by gradient they must be the same photos in the same order, with
    classes renamed.

    Args:
        personal: the model; it is not changed.
        contents: the photos; their class numbers, class names and provenance are made anew.
        labels: N names of classes.
        film_kept: the number of photos that FiLM was made from; they are the first.
        edit: JSON-able entry of the model's record of its edits.
    """
    names = tuple(sorted(set(labels)))
    number = {name: k for k, name in enumerate(names)}
    targets = np.array([number[label] for label in labels])
    novelty = logits = None
    head: Head
    if personal.adapted_by_gradient:
        order = [int(personal.contents.labels[targets == k][0]) for k in range(len(names))]
        head, head_record = personal.head.reordered(order), dict[str, Any]()
        novelty = personal.support_strangeness
        logits = as_array(personal.leave_one_out_logits())[:, order]
    else:
        head, head_record = _recalibrate(personal, replace(contents, labels=targets), len(names))
    film = _recorded(personal, "film", {"made_from": len(personal.contents.labels)})
    date = datetime.now(UTC).isoformat(timespec="seconds")
    history = [*_recorded(personal, "edits", []), {"date": date, **edit}]
    provenance = {
        **personal.provenance,
        **head_record,
        "film": {**film, "still_here": film_kept},
        "edits": history[-_HISTORY:],
    }
    changed = replace(
        contents,
        class_names=names,
        labels=targets,
        provenance=provenance,
        support_strangeness=novelty,
        leave_one_out_logits=logits,
    )
    return PersonalModel(personal.backbone, head, changed)


def _recalibrate(
    personal: PersonalModel, contents: Contents, classes: int
) -> tuple[Head, dict[str, Any]]:
    """Calibrate the head on these photos, as `adapt` would; return it and its provenance."""
    features, labels, photos = map(torch.from_numpy, contents.rows())
    groups = torch.from_numpy(contents.together)[photos]
    as_is = torch.arange(len(labels)) % contents.features.shape[1] == 0
    head = personal.head.recalibrated(SupportSet(features, labels, classes, groups, as_is))
    record = {**_recorded(personal, "head", {}), "temperature_factor": head.temperature_factor}
    return head.to(personal.labels.device), {"head": record}


def film_kept(personal: PersonalModel) -> int:
    """Return the number of photos that FiLM was made from; they are the first."""
    number = len(personal.contents.labels)
    still_here = _recorded(personal, "film", {}).get("still_here")
    return min(number, max(0, still_here)) if isinstance(still_here, int) else number


def _recorded(personal: PersonalModel, key: str, default: Any) -> Any:
    """Return an entry of the provenance, or the default if it has another type."""
    value = personal.provenance.get(key)
    return value if isinstance(value, type(default)) else default


def named(personal: PersonalModel) -> list[str]:
    """Return the names of the photos; class/#number if the model has none."""
    if personal.photos:
        return list(personal.photos)
    seen: Counter[int] = Counter()
    names = []
    for k in personal.contents.labels.tolist():
        seen[k] += 1
        names.append(f"{personal.class_names[k]}/#{seen[k]}")
    return names


def labels_of(personal: PersonalModel) -> list[str]:
    """Return the class name of each photo."""
    return [personal.class_names[k] for k in personal.contents.labels.tolist()]
