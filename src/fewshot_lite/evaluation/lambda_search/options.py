"""Settings of a pattern search, checked without importing torch."""

from __future__ import annotations

from dataclasses import dataclass

from fewshot_lite.core.config import POSITIVE, SHARE, Limits, check_seed, check_settings, setting
from fewshot_lite.core.errors import UsageError
from fewshot_lite.evaluation.names import REFINE, TAKE_PATTERNS, ModelName, parse_models


@dataclass(frozen=True)
class SearchOptions:
    """The settings of a pattern search, which are flags of `lambda-search`."""

    max_drop: float = setting(0.01, "Mean accuracy that may be lost; 0.01 is one point.", SHARE)
    way: int | None = setting(
        None, "Classes of a task.", Limits(2), shown="5, or what a learned head is for"
    )
    shots: int = setting(5, "Support images of each class.", POSITIVE)
    queries: int = setting(10, "Query images of each class.", POSITIVE)
    tasks: int = setting(100, "Tasks of each data set.", POSITIVE)
    seed: int = setting(0, "Seed that the tasks are drawn with.")
    inner_steps: int | None = setting(
        None,
        "Inner steps to search with, which are stored with the pattern; refine: has its own.",
        POSITIVE,
        shown="the model's own, for finetune 50",
    )
    max_patterns: int = setting(
        64, "Measure all patterns if there are no more than this; else search greedily.", Limits(2)
    )

    def check(self) -> None:
        """Raise UsageError for values that no search can have."""
        check_settings(self)
        check_seed(self.seed)


def parse_searched(text: str) -> ModelName:
    """Parse the model of a search: a checkpoint, a refined one, or fine-tuning of its network.

    Raises:
        UsageError: as `parse_models`, or a baseline without gradient steps through layers.
    """
    (name,) = parse_models([text])
    if name.baseline is not None and name.baseline not in (REFINE, *TAKE_PATTERNS):
        raise UsageError(
            f"{text}: {name.baseline} updates no layers of a network. {what_to_give()}"
        )
    return name


def what_to_give() -> str:
    """Return a sentence with the models that can be searched."""
    others = " or ".join(f"{name}:MODEL" for name in (REFINE, *TAKE_PATTERNS))
    return f"Give a checkpoint of maml, fomaml or imaml (meta-train --learner maml), or {others}."
