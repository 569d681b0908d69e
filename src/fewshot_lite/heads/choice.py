"""Which head a personal model gets: all read the same cached features, the backbone is passed once.

`benchmarks/accuracy/compare.py` compares them. The mean of the Mahalanobis head, the linear one and
cosines with class means was best on the validation sets: a base with a Mahalanobis head adapts with
that, and others keep their own.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fewshot_lite.core.config import HeadName
from fewshot_lite.core.errors import UsageError
from fewshot_lite.heads import Statistics
from fewshot_lite.heads.adapted import AdaptedHead
from fewshot_lite.heads.calibration import likeliest_factor, scaled, temperature_factor
from fewshot_lite.heads.leave_one_out import left_out_logits
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.mean import MeanHead
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.registry import AnyHead
from fewshot_lite.heads.ridge import RidgeHead

#: Of a Mahalanobis head on root features that was not meta-trained, chosen as the ridge head's.
_BETA, _TEMPERATURE = 0.7, 0.18
#: Temperatures of class means, likewise; the second one times the mean squared distance of support
#: images from their mean, as features are of any size.
_COSINE, _EUCLIDEAN = 9.0, 3.0
#: Factor on the mean's logits: where its members differ it is less sure than it is right. Chosen
#: likewise, for 1 to 5 shots and 3 to 10 ways; drawings and novel classes were looked at as well.
_MEAN = 1.3
#: What a head must be better than the default by in cross-validation: with a few dozen photos,
#: smaller differences are chance, and following them costs more than it gains.
_MARGIN = 0.05


@dataclass(frozen=True)
class Choice:
    """A head, and how it came to be."""

    head: AnyHead
    name: str
    """As `describe_choice` has it: mahalanobis, cosine, euclidean, linear, mean, generated."""
    accuracies: dict[str, float] = field(default_factory=dict)
    """Of every candidate on support photos left out, if there was anything to choose by."""
    asked: HeadName = "default"
    factor: float = 1.0
    """Of the temperature, by `calibration`; the head has it already."""
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


def choose_head(
    wanted: HeadName, own: AnyHead, features: Tensor, labels: Tensor, classes: int
) -> Choice:
    """The head for a support set; nothing in it is random.

    Args:
        wanted: a head's name; "default": what did best on the validation sets; "auto": the best in
            cross-validation on the support set, if it is clearly better than the default.
        own: the base's head; its learned constants are kept where it is of the kind wanted.
        features: (N, d), of the support set.
        labels: int64 (N,) of 0..K-1, every class present.
        classes: K.

    Raises:
        ValueError: a class without images.
    """
    own = copy.deepcopy(own)
    candidates = _candidates(wanted, own, features)
    candidates = {name: head.to(features.device) for name, head in candidates.items()}
    best, *others = candidates
    accuracies: dict[str, float] = {}
    alone = int(torch.bincount(labels, minlength=classes).max()) < 2
    if others and not alone:
        accuracies = {
            name: left_out_accuracy(head, features, labels, classes)
            for name, head in candidates.items()
        }
        best = max(candidates, key=lambda name: accuracies[name] + _MARGIN * (name == best))
    factor = temperature_factor(candidates[best], features, labels, classes)
    head = scaled(candidates[best], factor)
    return Choice(head, best, accuracies, wanted, factor, alone and wanted == "auto")


def check_adapted_head(wanted: HeadName) -> None:
    """Refuse a choice where there is none: features adapted to their labels favour any head.

    Raises:
        UsageError: another head is wanted.
    """
    if wanted != "default":
        raise UsageError(
            f"--head {wanted}: must be left out with a base that adapts by gradient steps, which "
            "adapt its head too."
        )


def adapted_choice(statistics: Statistics, left_out: Tensor, labels: Tensor) -> Choice:
    """The head that gradient steps adapted together with the backbone.

    Args:
        statistics: its "weight" (K, d) and "bias" (K,).
        left_out: logits (N, K) of the support images by models adapted without them.
        labels: int64 (N,) of 0..K-1.
    """
    factor = likeliest_factor(left_out, labels)
    head = scaled(AdaptedHead.of(statistics["weight"], statistics["bias"]), factor)
    return Choice(head, "adapted", factor=factor)


def default_head(own: AnyHead) -> tuple[str, AnyHead]:
    """Name and head that a base with this head adapts with, unless told otherwise."""
    if isinstance(own, MahalanobisHead):
        return "mean", scaled(MeanHead([own, RidgeHead(), _cosine_head()]), _MEAN)
    if isinstance(own, PrototypeHead):
        return own.metric, own
    if isinstance(own, RidgeHead):
        return "linear", own
    return ("mean" if isinstance(own, MeanHead) else "generated"), own


def untrained_head() -> MahalanobisHead:
    """The head of a backbone that was never meta-trained."""
    return MahalanobisHead(_BETA, _TEMPERATURE, root=True)


def left_out_accuracy(head: AnyHead, features: Tensor, labels: Tensor, classes: int) -> float:
    """Share of support images named right when left out, each class weighing the same.

    Images that are their class's only one do not count; NaN if all are.
    """
    with torch.no_grad():
        logits = left_out_logits(head, features, labels, classes)
    known = ~logits.isnan().any(1)
    right = (logits.argmax(1) == labels)[known].double()
    shots = torch.bincount(labels[known], minlength=classes)
    sums = torch.zeros(classes, dtype=right.dtype, device=right.device)
    shares = sums.index_add(0, labels[known], right)[shots > 0] / shots[shots > 0]
    return float(shares.mean())


def _candidates(wanted: HeadName, own: AnyHead, features: Tensor) -> dict[str, AnyHead]:
    """Heads by name, the one that is used without cross-validation first."""
    if wanted not in ("auto", "default"):
        return {wanted: _named(wanted, own, features)}
    name, head = default_head(own)
    if wanted == "default":
        return {name: head}
    others = ("mahalanobis", "cosine", "euclidean", "linear")
    return {name: head} | {other: _named(other, own, features) for other in others if other != name}


def _named(name: str, own: AnyHead, features: Tensor) -> AnyHead:
    """A head by name, the base's own where it is one."""
    if name == "linear":
        return own if isinstance(own, RidgeHead) else RidgeHead()
    if name == "mahalanobis":
        return own if isinstance(own, MahalanobisHead) else untrained_head()
    if isinstance(own, PrototypeHead) and own.metric == name:
        return own
    if name == "cosine":
        return _cosine_head()
    head = PrototypeHead("euclidean")
    start = float(head.log_temperature.detach().exp())
    spread = (features - features.mean(0)).square().sum(1).mean().clamp(min=1e-12)
    return scaled(head, _EUCLIDEAN / (start * float(spread)))


def _cosine_head() -> PrototypeHead:
    head = PrototypeHead("cosine")
    torch.nn.init.constant_(head.log_temperature, math.log(_COSINE))
    return head
