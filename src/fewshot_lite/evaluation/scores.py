"""The score of a model on a task, small enough to be kept for every task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fewshot_lite.evaluation.cost import Cost

#: Guo et al. 2017, "On calibration of modern neural networks": 15 bins of equal width.
BINS = 15


@dataclass(frozen=True)
class TaskScore:
    """The score of one model on one task."""

    units: tuple[float, ...]
    """The task's accuracy, or that of each of its parts; means and intervals are over these."""
    bins: tuple[tuple[int, float, int], ...]
    """For each bin of confidence: queries, sum of confidences, correct answers."""
    cost: Cost | None = None
    predictions: tuple[int, ...] | None = None
    """The class of each query if queries have parts, for metrics of videos."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TaskScore:
        """Read a score from the log."""
        cost, predictions = values["cost"], values["predictions"]
        return cls(
            units=tuple(float(u) for u in values["units"]),
            bins=tuple((int(n), float(c), int(k)) for n, c, k in values["bins"]),
            cost=Cost(**cost) if cost is not None else None,
            predictions=tuple(predictions) if predictions is not None else None,
        )


@dataclass(frozen=True)
class TaskRecord:
    """The scores of all models on one task."""

    number: int
    group: str
    way: int
    support: int
    queries: int
    scores: dict[str, TaskScore]
    """The scores by the model's name."""

    def to_json(self) -> dict[str, Any]:
        """Return the values of a line of the log."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TaskRecord:
        """Read the values of `to_json`."""
        scores = {name: TaskScore.from_json(s) for name, s in values["scores"].items()}
        return cls(**{**values, "scores": scores})


def judge(
    logits: Tensor, labels: Sequence[int], parts: Sequence[str] = (), cost: Cost | None = None
) -> TaskScore:
    """Score the logits (Q, K) of a task's queries.

    Args:
        labels: the classes 0..K-1 of the queries.
        parts: the video that each query is a frame of; empty if queries are no frames.
    """
    confidence, answer = logits.float().softmax(1).max(1)
    right = answer == torch.tensor(labels)
    if parts:
        frames: dict[str, list[bool]] = {}
        for part, is_right in zip(parts, right.tolist(), strict=True):
            frames.setdefault(part, []).append(is_right)
        units = tuple(sum(answers) / len(answers) for answers in frames.values())
    else:
        units = (float(right.double().mean()),)
    predictions = tuple(answer.tolist()) if parts else None
    return TaskScore(units, _bins(confidence.double(), right), cost, predictions)


def _bins(confidence: Tensor, right: Tensor) -> tuple[tuple[int, float, int], ...]:
    number = (confidence * BINS).ceil().long().sub(1).clamp(0, BINS - 1)  # (0, 1/15], ...
    counts = torch.bincount(number, minlength=BINS).tolist()
    sums = torch.bincount(number, confidence, minlength=BINS).tolist()
    rights = torch.bincount(number[right], minlength=BINS).tolist()
    return tuple(zip(counts, sums, rights, strict=True))


def calibration_error(scores: Sequence[TaskScore]) -> float:
    """Return the expected calibration error over all queries of the tasks."""
    gap, total = 0.0, 0
    for columns in zip(*(score.bins for score in scores), strict=True):
        count, confidence, right = (sum(values) for values in zip(*columns, strict=True))
        gap += abs(confidence - right)
        total += count
    return gap / total
