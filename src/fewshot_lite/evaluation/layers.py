"""Which layers fine-tuning updates: what a pattern of digits means for it."""

from __future__ import annotations

from dataclasses import dataclass

from fewshot_lite.core.errors import UsageError
from fewshot_lite.maml.patterns import Pattern
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.stages import Staged


@dataclass(frozen=True)
class Updated:
    """What a pattern updates."""

    names: frozenset[str]
    """Parameters by their names in the backbone."""
    lowest: int
    """The first stage with any of them; their number if there is none."""


def updated_by(pattern: str | None, backbone: Backbone) -> Updated:
    """The parameters that a pattern updates, of those that the backbone has.

    Raises:
        UsageError: it does not fit, changes from step to step, or leaves the head as it is.
    """
    staged = Staged(backbone)
    row = (True,) * len(staged.layers)
    if pattern is not None:
        if "," in pattern:
            raise UsageError(
                f"--pattern {pattern}: must be one row for fine-tuning, whose steps all update the "
                "same layers."
            )
        row = Pattern.parse(pattern, staged.layers, 1).rows[0]
    if not row[-1]:
        raise UsageError(
            f"--pattern {pattern}: must end in 1: fine-tuning's head starts at zero, and while it "
            "stays there nothing below it learns."
        )
    by_stage = staged.parameter_names()
    wanted = [names if on else [] for on, names in zip(row, by_stage, strict=False)]
    lowest = next((number for number, names in enumerate(wanted) if names), len(wanted))
    found = frozenset(name.removeprefix("backbone.") for names in wanted for name in names)
    return Updated(found, lowest)
