"""An edit of a personal model, and what the model remembers of its edits.

Photos that FiLM was made from stand before those added later, so that their number tells which.
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

#: Below this share of photos that FiLM was made from, adapting anew is suggested.
_ENOUGH = 0.5
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
    """Photos more (or, negative, fewer) of each class, where it has others now."""
    new: tuple[str, ...] = ()
    """Classes that were not there before."""
    skipped: tuple[Skipped, ...] = ()
    """Files that were not read, and why."""
    duplicates: tuple[Duplicate, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    """Names that were, and what they are now."""


def film_share(personal: PersonalModel) -> float:
    """The share of the model's photos that FiLM was made from: 1 until others are added."""
    return film_kept(personal) / len(personal.contents.labels)


def worth_readapting(personal: PersonalModel) -> bool:
    """Whether adapting anew on all photos may be worth it: FiLM is from less than half of them.

    The task embedding is a mean over photos, so the share is how far it can have moved.
    """
    return film_share(personal) < _ENOUGH


def check_photos_may_change(personal: PersonalModel) -> None:
    """Refuse a model whose network knows its photos by more than what is kept of them.

    Raises:
        UsageError: gradient steps on all of its photos made it.
    """
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
    """The model with other photos; classes in alphabetical order, as `adapt` has them.

    One that was adapted by gradient has the same photos in the same order, in classes renamed.

    Args:
        contents: the photos; numbers and names of classes, and the record, are made anew.
        labels: N names of classes.
        film_kept: the number of photos that FiLM was made from; they are the first.
        edit: JSON-able, for the model's record of its edits.
    """
    names = tuple(sorted(set(labels)))
    number = {name: k for k, name in enumerate(names)}
    targets = np.array([number[label] for label in labels])
    strangeness = logits = None
    head: Head
    if personal.adapted_by_gradient:
        order = [int(personal.contents.labels[targets == k][0]) for k in range(len(names))]
        head, chosen = personal.head.reordered(order), dict[str, Any]()
        strangeness = personal.support_strangeness
        logits = as_array(personal.leave_one_out_logits())[:, order]
    else:
        head, chosen = _calibrated(personal, replace(contents, labels=targets), len(names))
    film = _recorded(personal, "film", {"made_from": len(personal.contents.labels)})
    date = datetime.now(UTC).isoformat(timespec="seconds")
    history = [*_recorded(personal, "edits", []), {"date": date, **edit}]
    provenance = {
        **personal.provenance,
        **chosen,
        "film": {**film, "still_here": film_kept},
        "edits": history[-_HISTORY:],
    }
    changed = replace(
        contents,
        class_names=names,
        labels=targets,
        provenance=provenance,
        support_strangeness=strangeness,
        leave_one_out_logits=logits,
    )
    return PersonalModel(personal.backbone, head, changed)


def _calibrated(
    personal: PersonalModel, contents: Contents, classes: int
) -> tuple[Head, dict[str, Any]]:
    """The head calibrated as `adapt` would calibrate it for these photos, and its new record."""
    features, labels, photos = map(torch.from_numpy, contents.rows())
    groups = torch.from_numpy(contents.together)[photos]
    as_is = torch.arange(len(labels)) % contents.features.shape[1] == 0
    head = personal.head.recalibrated(SupportSet(features, labels, classes, groups, as_is))
    record = {**_recorded(personal, "head", {}), "temperature_factor": head.temperature_factor}
    return head.to(personal.labels.device), {"head": record}


def film_kept(personal: PersonalModel) -> int:
    """How many of the model's photos FiLM was made from; they are the first."""
    number = len(personal.contents.labels)
    still_here = _recorded(personal, "film", {}).get("still_here")
    return min(number, max(0, still_here)) if isinstance(still_here, int) else number


def _recorded(personal: PersonalModel, key: str, default: Any) -> Any:
    """An entry of the model's record, unless it is of another type than it has to be."""
    value = personal.provenance.get(key)
    return value if isinstance(value, type(default)) else default


def named(personal: PersonalModel) -> list[str]:
    """The photos' names; where the model does not know them, their class and number in it."""
    if personal.photos:
        return list(personal.photos)
    seen: Counter[int] = Counter()
    names = []
    for k in personal.contents.labels.tolist():
        seen[k] += 1
        names.append(f"{personal.class_names[k]}/#{seen[k]}")
    return names


def labels_of(personal: PersonalModel) -> list[str]:
    """The name of each photo's class."""
    return [personal.class_names[k] for k in personal.contents.labels.tolist()]
