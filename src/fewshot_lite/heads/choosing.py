"""Choose a head by name, or by cross-validation on the support set; this does not import torch.

All heads read the same features, so the backbone is passed once. `fewshot-lite evaluate film-NAME`
compares them. On the validation sets the mean of the Mahalanobis head, ridge regression and cosines
with class means was best: it is the default of a base with a Mahalanobis head; other bases keep
their own head.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from fewshot_lite.core.config import HeadName
from fewshot_lite.heads import calibration
from fewshot_lite.heads.array_head import ArrayHead
from fewshot_lite.heads.defaults import default_head, named_head
from fewshot_lite.heads.groups import groups_per_class
from fewshot_lite.heads.in_numpy import Array, Support

#: The margin by which a head must beat the default in cross-validation: with a few dozen photos,
#: smaller differences are chance, and following them costs more than it gains.
_MARGIN = 0.05
#: The heads that "auto" compares with the default.
_OTHERS = ("mahalanobis-root", "cosine", "euclidean", "ridge")

H = TypeVar("H")


@dataclass(frozen=True)
class Chosen(Generic[H]):
    """A calibrated head, as arrays or torch's, and how it was chosen."""

    head: H
    name: str
    """The head's name before calibration, as `adapt --head` spells it."""
    accuracies: dict[str, float] = field(default_factory=dict)
    """Leave-one-out accuracy of each candidate; empty without cross-validation."""
    asked: HeadName = "default"
    factor: float = 1.0
    """The factor of calibration on the logits; the head has it already."""
    alone: bool = False
    """Whether cross-validation was asked for, but every class has one photo."""

    def record(self) -> dict[str, Any]:
        """Return the JSON-able entry of a personal model's provenance."""
        record: dict[str, Any] = {
            "asked": self.asked,
            "used": self.name,
            "temperature_factor": self.factor,
        }
        if self.accuracies:
            record["left_out_accuracy"] = {k: round(v, 4) for k, v in self.accuracies.items()}
        if self.alone:
            record["note"] = "one photo of each class: nothing to cross-validate on"
        return record


def choose(
    name: HeadName,
    base_head: ArrayHead,
    support: Support,
    groups: Array | None = None,
    queries: Array | None = None,
) -> Chosen[ArrayHead]:
    """Choose a head for a support set and calibrate it; nothing in it is random.

    Args:
        name: a head's name; "default": the best on the validation sets; "auto": the one that names
            most photos right when they are left out, if it is clearly better than the default.
        base_head: the base's head; its learned constants are kept where it has the name asked for.
        support: features (N, d), labels int64 (N,) of 0..K-1, every class present, and K.
        groups: as `calibration.calibrate` takes it.
        queries: as `calibration.calibrate` takes it.

    Raises:
        ValueError: a class without images.
    """

    def head_of(name: str) -> ArrayHead:
        return base_head if name == base_head.name else named_head(name, support[0])

    if name in ("auto", "default"):
        default = default_head(base_head)
        others = [other for other in _OTHERS if name == "auto" and other != default.name]
        heads = {default.name: default} | {other: head_of(other) for other in others}
    else:
        heads = {name: head_of(name)}
    constants = {
        key: calibration.calibrate(head, support, groups, queries) for key, head in heads.items()
    }
    calibrated = {key: head.calibrated(*constants[key]) for key, head in heads.items()}
    best = next(iter(heads))
    accuracies: dict[str, float] = {}
    alone = int(groups_per_class(support[1], support[2], groups).max()) < 2
    if len(heads) > 1 and not alone:
        accuracies = {
            key: calibration.leave_one_out_accuracy(head, support, groups)
            for key, head in calibrated.items()
        }
        best = max(heads, key=lambda key: accuracies[key] + _MARGIN * (key == best))
    factor = float(np.float32(constants[best][0]))
    return Chosen(calibrated[best], best, accuracies, name, factor, alone and name == "auto")
