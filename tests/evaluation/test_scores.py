"""Scores of a task: accuracy, parts, calibration; and as the log keeps them."""

from __future__ import annotations

import json

import pytest
import torch

from fewshot_lite.evaluation.cost import Cost
from fewshot_lite.evaluation.scores import TaskRecord, TaskScore, calibration_error, judge


def _logits(*confidences: float) -> torch.Tensor:
    """Two classes, the first with these probabilities."""
    p = torch.tensor(confidences, dtype=torch.float64)
    return torch.stack([p.log(), (1 - p).log()], 1)


def test_accuracy_is_the_share_of_right_answers() -> None:
    score = judge(_logits(0.9, 0.9, 0.2, 0.3), [0, 1, 1, 1], (), None)
    assert score.units == (0.75,)
    assert score.predictions is None


def test_parts_are_scored_each_and_their_predictions_kept() -> None:
    score = judge(_logits(0.9, 0.1, 0.9, 0.9), [0, 0, 0, 1], ("one", "two", "one", "two"), None)
    assert score.units == (1.0, 0.0)
    assert score.predictions == (0, 1, 0, 0)


def test_calibration_error_by_hand() -> None:
    """Three answers at 0.9, one of them right; one at 0.6, right: (3 |0.9 - 1/3| + 0.4) / 4."""
    one = judge(_logits(0.9, 0.9), [0, 1], (), None)
    two = judge(_logits(0.9, 0.6), [1, 0], (), None)
    assert calibration_error([one, two]) == pytest.approx((3 * (0.9 - 1 / 3) + 0.4) / 4, rel=1e-6)


def test_sure_and_right_is_calibrated() -> None:
    logits = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]])
    assert calibration_error([judge(logits, [0, 1], (), None)]) == 0
    assert calibration_error([judge(logits, [1, 0], (), None)]) == 1


def test_records_survive_the_log() -> None:
    cost = Cost(1.5, 0.25, None, 1e9, 2e7, 2**30)
    scores = {
        "a": judge(_logits(0.9, 0.123456789), [0, 1], (), cost),
        "b": TaskScore((0.5, 1.0), ((2, 1.5, 1),), None, (0, 1)),
    }
    record = TaskRecord(3, "set", 2, 10, 2, scores)
    assert TaskRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
