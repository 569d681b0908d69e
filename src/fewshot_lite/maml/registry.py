"""All learners, those that adapt by gradient too, by the names that `--learner` takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fewshot_lite.core.errors import UsageError
from fewshot_lite.learners import Cnaps, Frozen, Learner, ProtoNets, SimpleCnaps
from fewshot_lite.maml.imaml import ImplicitMaml
from fewshot_lite.maml.maml import FirstOrderMaml, Maml
from fewshot_lite.networks.backbone import Backbone

#: The learners that can be meta-trained, the default first.
LEARNERS: dict[str, Callable[..., Learner]] = {
    SimpleCnaps.name: SimpleCnaps,
    Cnaps.name: Cnaps,
    ProtoNets.name: ProtoNets,
    Maml.name: Maml,
    FirstOrderMaml.name: FirstOrderMaml,
    ImplicitMaml.name: ImplicitMaml,
}


def make_learner(name: str, backbone: Backbone, hyperparameters: dict[str, Any]) -> Learner:
    """Make a learner by name; raise a UsageError if there is none of this name."""
    if name == Frozen.name:
        return Frozen(backbone, **hyperparameters)
    if name not in LEARNERS:
        raise UsageError(f"learner {name!r}: unknown. Known are {', '.join(LEARNERS)}.")
    return LEARNERS[name](backbone, **hyperparameters)
