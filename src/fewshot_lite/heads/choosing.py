"""Which head is taken: by its name, or by cross-validation on the support set; without torch.

`choice` says what was compared and is the same for torch's heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from fewshot_lite.core.config import HeadName
from fewshot_lite.heads import calibration
from fewshot_lite.heads.array_head import ArrayHead, DescribedHead
from fewshot_lite.heads.defaults import default_head, name_of, named_head
from fewshot_lite.heads.groups import groups_per_class
from fewshot_lite.heads.in_numpy import Array, Support

#: The margin by which a head must beat the default in cross-validation: with a few dozen photos,
#: smaller differences are chance, and following them costs more than it gains.
_MARGIN = 0.05
#: The heads that "auto" chooses among besides the default.
_OTHERS = ("mahalanobis-root", "cosine", "euclidean", "ridge")

H = TypeVar("H")


@dataclass(frozen=True)
class Chosen(Generic[H]):
    """A head, of torch's or described, and how it came to be."""

    head: H
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


@dataclass(frozen=True)
class Best:
    """The best of some heads, by its name."""

    name: str
    constants: tuple[float, float]
    """Its factor and count offset; see `calibration.calibrate`."""
    accuracies: dict[str, float]
    alone: bool
    """Whether every class has one photo, or one clip."""


def candidates(wanted: HeadName, default: tuple[str, H], named: Callable[[str], H]) -> dict[str, H]:
    """Heads by name, the one that is used without cross-validation first.

    Args:
        wanted: as `choice.choose_head` takes it.
        default: name and head of what is taken unless told otherwise.
        named: gives a head of this name.
    """
    if wanted not in ("auto", "default"):
        return {wanted: named(wanted)}
    others = _OTHERS if wanted == "auto" else ()
    return dict([default]) | {name: named(name) for name in others if name != default[0]}


def best_of(
    heads: Mapping[str, ArrayHead], support: Support, groups: Array | None, queries: Array | None
) -> Best:
    """The head that names most photos left out right; the first unless another is clearly better.

    Args:
        heads: by name, as they were learned.
        support: features (N, d), labels int64 (N,) of 0..K-1, every class present, and K.
        groups: as `calibration.calibrate` takes it.
        queries: as `calibration.calibrate` takes it.

    Raises:
        ValueError: a class without images.
    """
    found = {
        name: calibration.calibrate(head, support, groups, queries) for name, head in heads.items()
    }
    best, *others = heads
    accuracies: dict[str, float] = {}
    alone = int(groups_per_class(support[1], support[2], groups).max()) < 2
    if others and not alone:
        accuracies = {
            name: calibration.leave_one_out_accuracy(head.calibrated(*found[name]), support, groups)
            for name, head in heads.items()
        }
        best = max(heads, key=lambda name: accuracies[name] + _MARGIN * (name == best))
    return Best(best, found[best], accuracies, alone)


def choose_described(
    wanted: HeadName,
    own: DescribedHead,
    support: Support,
    groups: Array | None = None,
    queries: Array | None = None,
) -> Chosen[DescribedHead]:
    """The head for a support set, as `choice.choose_head`; nothing in it is random.

    Args:
        wanted: as `choice.choose_head` takes it.
        own: the base's head, a Mahalanobis head.
        support: as for `best_of`.
        groups: as for `best_of`.
        queries: as for `best_of`.

    Raises:
        ValueError: a class without images.
    """
    default = default_head(own.description, own.tensors)
    heads = candidates(
        wanted,
        (name_of(default.description), default),
        lambda name: own if name == name_of(own.description) else named_head(name, support[0]),
    )
    best = best_of(heads, support, groups, queries)
    head = heads[best.name].calibrated(*best.constants)
    factor = float(head.tensors["factor"])
    alone = best.alone and wanted == "auto"
    return Chosen(head, best.name, best.accuracies, wanted, factor, alone)
