"""ORBIT's metrics against examples worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_lite.evaluation.protocols.base import EvaluationTask
from fewshot_lite.published.orbit.metrics import (
    VideoScore,
    frame_accuracy,
    frames_to_recognition,
    paired_difference,
    score_videos,
    summarise,
    video_accuracy,
)

# Videos of 4 frames of class 0, of 2 frames of class 0 and of 4 frames of class 1.
PARTS = ("a",) * 4 + ("b",) * 2 + ("c",) * 4
TASK = EvaluationTask(
    group="P1",
    class_names=("bag", "keys", "mug"),
    support=(),
    support_labels=(),
    query=tuple(Path(f"{n}.jpg") for n in range(10)),
    query_labels=(0,) * 6 + (1,) * 4,
    query_parts=PARTS,
)
PREDICTIONS = [2, 0, 0, 0, 1, 2, 1, 1, 0, 0]


def test_the_metrics_of_each_video() -> None:
    assert score_videos(TASK, PREDICTIONS, 7) == [
        VideoScore("P1", 7, "a", 0.75, 0.25, 1.0),
        VideoScore("P1", 7, "b", 0.0, 1.0, 0.0),
        VideoScore("P1", 7, "c", 0.5, 0.0, 0.0),  # 2 : 2, and of ties the first class counts
    ]


@pytest.mark.parametrize(
    ("predictions", "accuracy", "recognition", "video"),
    [
        ([1], 1.0, 0.0, 1.0),
        ([0], 0.0, 1.0, 0.0),
        ([0, 0, 0, 0, 1], 0.2, 0.8, 0.0),
        ([2, 2, 1, 1], 0.5, 0.5, 1.0),
        ([0, 1, 2, 1, 2, 1, 0, 0], 0.375, 0.125, 0.0),
        ([0, 1, 2, 1, 2, 1, 0], 3 / 7, 1 / 7, 1.0),
    ],
)
def test_videos_of_class_1(
    predictions: list[int], accuracy: float, recognition: float, video: float
) -> None:
    assert frame_accuracy(1, predictions) == pytest.approx(accuracy)
    assert frames_to_recognition(1, predictions) == pytest.approx(recognition)
    assert video_accuracy(1, predictions) == video


def scores(by_user: dict[str, list[float]]) -> list[VideoScore]:
    return [
        VideoScore(user, 0, str(n), accuracy, 1 - accuracy, 0.0)
        for user, values in by_user.items()
        for n, accuracy in enumerate(values)
    ]


def test_averages_over_videos_and_over_users() -> None:
    figures = summarise(scores({"P1": [1.0, 0.0, 0.5], "P2": [1.0]}))
    # Variances over n - 1: ((3/8)² + (5/8)² + (1/8)² + (3/8)²) / 3 = 11/48; 2 (1/4)²
    assert figures.over_videos.mean == pytest.approx(0.625)
    assert figures.over_videos.half_width == pytest.approx(1.96 * (11 / 48 / 4) ** 0.5)
    assert figures.over_videos.count == 4
    assert figures.over_users.mean == pytest.approx(0.75)
    assert figures.over_users.half_width == pytest.approx(1.96 * 0.25)
    assert figures.by_user["P1"].mean == pytest.approx(0.5)
    assert math.isnan(figures.by_user["P2"].half_width), "of one video"


def test_other_metrics_are_averaged_alike() -> None:
    figures = summarise(scores({"P1": [1.0, 0.0], "P2": [0.25]}), "frames_to_recognition")
    assert figures.over_videos.mean == pytest.approx(1.75 / 3)
    assert figures.over_users.mean == pytest.approx(0.625)


def test_paired_differences_are_of_the_same_videos_in_any_order() -> None:
    one = scores({"P1": [1.0, 0.5], "P2": [0.25, 0.0]})
    other = scores({"P1": [0.5, 0.5], "P2": [0.25, 0.5]})
    figure = paired_difference(one, other[::-1])
    assert figure.mean == pytest.approx(0.0)
    assert figure.half_width == pytest.approx(1.96 * (0.5 / 3 / 4) ** 0.5)
    assert paired_difference(one, one).half_width == 0.0


def test_scores_of_other_videos_are_not_compared() -> None:
    one = scores({"P1": [1.0, 0.5]})
    with pytest.raises(ValueError, match="same videos"):
        paired_difference(one, [replace(score, task=1) for score in one])


def test_as_many_predictions_as_frames() -> None:
    with pytest.raises(ValueError, match="shorter"):
        score_videos(TASK, PREDICTIONS[:-1])


def test_no_scores() -> None:
    with pytest.raises(ValueError, match="no scores"):
        summarise([])
