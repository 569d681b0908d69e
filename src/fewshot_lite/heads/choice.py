"""Which head a personal model gets: all read the same cached features, the backbone is passed once.

`fewshot-lite evaluate film-NAME` compares them. The mean of the Mahalanobis head, ridge regression
and cosines with class means was best on the validation sets: a base with a Mahalanobis head adapts
with that, and others keep their own.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fewshot_lite.core.config import HeadName
from fewshot_lite.heads import calibration, defaults
from fewshot_lite.heads.adapted import AdaptedHead
from fewshot_lite.heads.base import Head, Statistics, SupportSet
from fewshot_lite.heads.calibrated import (
    CalibratedHead,
    as_array_head,
    calibrate,
    likeliest_factor,
)
from fewshot_lite.heads.groups import groups_per_class
from fewshot_lite.heads.in_numpy import state_of
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.registry import NAMED_HEADS, make_head

#: Temperature of Euclidean class means times the mean squared distance of support images from
#: their mean, as features are of any size.
_EUCLIDEAN = 3.0
#: The margin by which a head must beat the default in cross-validation: with a few dozen photos,
#: smaller differences are chance, and following them costs more than it gains.
_MARGIN = 0.05
#: The heads that "auto" chooses among besides the default.
_OTHERS = ("mahalanobis-root", "cosine", "euclidean", "ridge")


@dataclass(frozen=True)
class Choice:
    """A head, and how it came to be."""

    head: Head
    name: str
    """As `Head.name` has it."""
    accuracies: dict[str, float] = field(default_factory=dict)
    """Leave-one-out accuracy of every candidate, if there was anything to choose by."""
    asked: HeadName = "default"
    factor: float = 1.0
    """The factor that calibration put on the temperature; the head has it already."""
    alone: bool = False
    """Whether cross-validation was asked for, but every class has one photo."""

    def record(self) -> dict[str, Any]:
        """JSON-able, for a personal model's provenance."""
        found: dict[str, Any] = {
            "asked": self.asked,
            "used": self.name,
            "temperature_factor": self.factor,
        }
        if self.accuracies:
            found["left_out_accuracy"] = {k: round(v, 4) for k, v in self.accuracies.items()}
        if self.alone:
            found["note"] = "one photo of each class: nothing to cross-validate on"
        return found


def choose_head(wanted: HeadName, own: Head, support: SupportSet) -> Choice:
    """The head for a support set; nothing in it is random.

    Args:
        wanted: a head's name; "default": what did best on the validation sets; "auto": the best in
            cross-validation on the support set, if it is clearly better than the default.
        own: the base's head; its learned constants are kept where it is of the kind wanted.
        support: the support set.

    Raises:
        ValueError: a class without images.
    """
    features, given = support.features, support.arrays()
    heads = {
        name: calibrate(head.to(features.device), support)
        for name, head in _candidates(wanted, copy.deepcopy(own), features).items()
    }
    best, *others = heads
    accuracies: dict[str, float] = {}
    alone = int(groups_per_class(given[0][1], support.classes, given[1]).max()) < 2
    if others and not alone:
        accuracies = {
            name: calibration.leave_one_out_accuracy(as_array_head(head), *given)
            for name, head in heads.items()
        }
        best = max(heads, key=lambda name: accuracies[name] + _MARGIN * (name == best))
    factor = heads[best].temperature_factor
    return Choice(heads[best], best, accuracies, wanted, factor, alone and wanted == "auto")


def adapted_choice(
    statistics: Statistics, leave_one_out: Tensor, labels: Tensor, groups: Tensor | None = None
) -> Choice:
    """The head that gradient steps adapted together with the backbone.

    Args:
        statistics: its "weight" (K, d) and "bias" (K,).
        leave_one_out: logits (N, K) of the support images by models adapted without them.
        labels: int64 (N,) of 0..K-1.
        groups: int64 (N,), what was left out together.
    """
    factor = likeliest_factor(leave_one_out, labels, groups)
    head = AdaptedHead.of(statistics["weight"], statistics["bias"], factor)
    return Choice(head, head.name, factor=factor)


def refitted_choice(
    choice: Choice, left_out: Tensor, labels: Tensor, groups: Tensor | None = None
) -> Choice:
    """A head fitted to features that know its photos, its temperature from others that do not.

    Args:
        choice: of a head with a temperature of its own, which would be too sure.
        left_out: logits (N, K) of the support images by models adapted without them, by heads that
            are `untempered`.
        labels: int64 (N,) of 0..K-1.
        groups: int64 (N,), what was left out together.
    """
    factor = likeliest_factor(left_out, labels, groups)
    return replace(choice, head=untempered(choice, factor), factor=factor)


def untempered(choice: Choice, factor: float = 1.0) -> CalibratedHead:
    """The head of a choice with another factor on its temperature than photos left out gave it."""
    head = choice.head
    assert isinstance(head, CalibratedHead)
    found = CalibratedHead(head.head, factor, float(head.count_offset), head.count_power)
    return found.to(head.factor.device)


def default_head(own: Head) -> Head:
    """The head that a base with this one adapts with, unless told otherwise."""
    if own.kind != "mahalanobis":
        return own
    found = defaults.default_head(own.describe(), state_of(own))
    head = make_head(dict(found.description))
    head.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in found.tensors.items()})
    return head


def _candidates(wanted: HeadName, own: Head, features: Tensor) -> dict[str, Head]:
    """Heads by name, the one that is used without cross-validation first."""
    if wanted not in ("auto", "default"):
        return {wanted: _named(wanted, own, features)}
    head = default_head(own)
    others = _OTHERS if wanted == "auto" else ()
    return {head.name: head} | {
        name: _named(name, own, features) for name in others if name != head.name
    }


def _named(name: str, own: Head, features: Tensor) -> Head:
    """A head by name, the base's own where it is that one."""
    if own.name == name:
        return own
    if name == "euclidean":
        spread = (features - features.mean(0)).square().sum(1).mean().clamp(min=1e-12)
        return PrototypeHead("euclidean", _EUCLIDEAN / float(spread))
    return NAMED_HEADS[name]()
