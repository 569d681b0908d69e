"""Scores of one model on one task, small enough to keep of every task."""

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
    """One model on one task."""

    units: tuple[float, ...]
    """The units of means and intervals: the task's accuracy, or that of each of its parts."""
    bins: tuple[tuple[int, float, int], ...]
    """For each bin of confidence: queries, sum of confidences, right ones."""
    cost: Cost | None = None
    predictions: tuple[int, ...] | None = None
    """The class of each query, where queries are parts: metrics of videos need them all."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TaskScore:
        """One line of the log."""
        cost, predictions = values["cost"], values["predictions"]
        return cls(
            units=tuple(float(u) for u in values["units"]),
            bins=tuple((int(n), float(c), int(k)) for n, c, k in values["bins"]),
            cost=Cost(**cost) if cost is not None else None,
            predictions=tuple(predictions) if predictions is not None else None,
        )


@dataclass(frozen=True)
class TaskRecord:
    """All models on one task."""

    number: int
    group: str
    way: int
    support: int
    queries: int
    scores: dict[str, TaskScore]
    """By the model's name."""

    def to_json(self) -> dict[str, Any]:
        """As a line of the log has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TaskRecord:
        """Read back from `to_json`."""
        scores = {name: TaskScore.from_json(s) for name, s in values["scores"].items()}
        return cls(**{**values, "scores": scores})


def judge(
    logits: Tensor, labels: Sequence[int], parts: Sequence[str] = (), cost: Cost | None = None
) -> TaskScore:
    """Score logits (Q, K) of queries with these labels.

    Args:
        parts: what each query is a frame of; empty if queries stand for themselves.
    """
    confidence, answer = logits.float().softmax(1).max(1)
    right = answer == torch.tensor(labels)
    if parts:
        frames: dict[str, list[bool]] = {}
        for part, is_right in zip(parts, right.tolist(), strict=True):
            frames.setdefault(part, []).append(is_right)
        units = tuple(sum(found) / len(found) for found in frames.values())
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
    """Expected calibration error over all queries of these tasks."""
    gap, total = 0.0, 0
    for columns in zip(*(score.bins for score in scores), strict=True):
        count, confidence, right = (sum(values) for values in zip(*columns, strict=True))
        gap += abs(confidence - right)
        total += count
    return gap / total
