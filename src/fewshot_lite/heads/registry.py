"""Heads by name: those in files, and those that users name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fewshot_lite.heads.adapted import AdaptedHead
from fewshot_lite.heads.base import Head
from fewshot_lite.heads.calibrated import CalibratedHead
from fewshot_lite.heads.defaults import PLAIN, ROOT
from fewshot_lite.heads.generated import GeneratedLinearHead
from fewshot_lite.heads.in_numpy import COSINE, OLD_COUNT_POWER
from fewshot_lite.heads.logistic import LogisticHead
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.mean import MeanHead
from fewshot_lite.heads.nearest import NearestHead
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.ridge import RidgeHead

#: By `Head.kind`; "linear" in files before 0.2 is ridge regression.
_KINDS: Mapping[str, type[Head]] = {
    head.kind: head
    for head in (
        AdaptedHead,
        CalibratedHead,
        GeneratedLinearHead,
        MahalanobisHead,
        MeanHead,
        PrototypeHead,
        RidgeHead,
    )
} | {"linear": RidgeHead}

#: By `Head.name`: estimators for features of a network that was not meta-trained. Constants were
#: chosen on validation sets with features of the model of 0.1.0, over 1 to 10 shots. `defaults` has
#: those that `adapt` knows, without torch.
NAMED_HEADS: Mapping[str, Callable[[], Head]] = {
    "ridge": RidgeHead,
    "mahalanobis": lambda: MahalanobisHead(*PLAIN),
    "mahalanobis-root": lambda: MahalanobisHead(*ROOT, root=True),
    "cosine": lambda: PrototypeHead("cosine", COSINE),
    "euclidean": PrototypeHead,
    "logistic": LogisticHead,
    "knn": NearestHead,
}


def make_head(description: dict[str, Any]) -> Head:
    """Make a head from its description by `Head.describe`; its state is still to be loaded.

    Raises:
        ValueError: no such head.
    """
    options = dict(description)
    kind = options.pop("name")
    if kind not in _KINDS:
        raise ValueError(f"no head {kind!r}")
    if kind == CalibratedHead.kind:
        options.setdefault("count_power", OLD_COUNT_POWER)
    if "head" in options:
        options["head"] = make_head(options["head"])
    if "heads" in options:
        options["heads"] = [make_head(head) for head in options["heads"]]
    return _KINDS[kind](**options)
