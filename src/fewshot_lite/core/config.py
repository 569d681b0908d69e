"""What configurations are made of: the words that flags take, and checks; torch is not imported."""

from __future__ import annotations

from typing import Literal

from fewshot_lite.core.errors import UsageError

Precision = Literal["auto", "float32", "bfloat16"]
Sampling = Literal["uniform", "informed", "balanced"]
Gradient = Literal["lite", "full", "small-task"]
Metric = Literal["euclidean", "cosine"]
Schedule = Literal["cosine", "constant"]
OptimizerName = Literal["adam", "adamw"]
#: What is kept of a backbone's last map; see `backbones.Backbone.pool_by`.
Pooling = Literal["mean", "max"]
#: Of the learners that adapt by gradient; see `learners.gradient_learner` and `learners.imaml`.
InnerHead = Literal["means", "learned"]
NormStatistics = Literal["running", "support"]
InnerSolver = Literal["gd", "hessian-free"]
#: What a personal model tells classes apart with; see `heads.choice`.
HeadName = Literal["default", "auto", "mahalanobis", "cosine", "euclidean", "linear"]

#: More would take longer than anybody waits.
MOST_INNER_STEPS = 10_000
#: No count, rate or period is larger; torch could not take all that are.
HUGE = 1e9


def check_positive(**values: float) -> None:
    """Refuse counts and rates that are not positive, by the name of their flag."""
    for name, value in values.items():
        if not 0 < value <= HUGE:
            raise UsageError(f"{flag(name)} {value}: must be more than 0, and at most a billion.")


def check_not_negative(**values: float) -> None:
    """Refuse negative weights and periods, by the name of their flag."""
    for name, value in values.items():
        if not 0 <= value <= HUGE:
            raise UsageError(f"{flag(name)} {value}: must be 0 or more, and at most a billion.")


def check_workers(workers: int | None) -> None:
    """Refuse numbers of processes that no machine has."""
    if workers is not None and not 0 <= workers <= 1024:
        raise UsageError(f"--workers {workers}: must be between 0 and 1024, or 'auto'.")


def check_seed(seed: int) -> None:
    """Refuse seeds that torch cannot take."""
    if abs(seed) >= 2**63:
        raise UsageError(f"--seed {seed}: must fit in 64 bits.")


def flag(name: str) -> str:
    """The flag of a field of a configuration."""
    return "--lambda" if name == "lam" else f"--{name.replace('_', '-')}"
