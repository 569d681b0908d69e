"""ORBIT's metrics against examples worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fewshot_lite.evaluation.protocols.base import EvaluationTask
from fewshot_lite.published.orbit.metrics import (
    VideoScore,
    frames_to_recognition,
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
    assert score_videos(TASK, PREDICTIONS) == [
        VideoScore("P1", 4, 0.75, 0.25, 1.0),
        VideoScore("P1", 2, 0.0, 1.0, 0.0),
        VideoScore("P1", 4, 0.5, 0.0, 0.0),  # 2 : 2, and of ties the first class counts
    ]


@pytest.mark.parametrize(
    ("predictions", "recognition", "video"),
    [
        ([1], 0.0, 1.0),
        ([0], 1.0, 0.0),
        ([0, 0, 0, 0, 1], 0.8, 0.0),
        ([2, 2, 1, 1], 0.5, 1.0),
        ([0, 1, 2, 1, 2, 1, 0, 0], 0.125, 0.0),
        ([0, 1, 2, 1, 2, 1, 0], 1 / 7, 1.0),
    ],
)
def test_videos_of_class_1(predictions: list[int], recognition: float, video: float) -> None:
    assert frames_to_recognition(1, predictions) == pytest.approx(recognition)
    assert video_accuracy(1, predictions) == video


def scores(by_user: dict[str, list[float]], frames: int = 10) -> list[VideoScore]:
    return [
        VideoScore(user, frames, accuracy, 1 - accuracy, float(accuracy > 0.5))
        for user, values in by_user.items()
        for accuracy in values
    ]


def test_averages_over_videos_and_over_users() -> None:
    figures = summarise(scores({"P1": [1.0, 0.0, 0.5], "P2": [1.0]}))
    # Variances over n - 1: ((3/8)² + (5/8)² + (1/8)² + (3/8)²) / 3 = 11/48; 2 (1/4)²
    assert figures.over_videos.mean == pytest.approx(0.625)
    assert figures.over_videos.interval == pytest.approx(1.96 * (11 / 48 / 4) ** 0.5)
    assert figures.videos == 4
    assert figures.over_users.mean == pytest.approx(0.75)
    assert figures.over_users.interval == pytest.approx(1.96 * 0.25)
    assert figures.by_user == {"P1": pytest.approx(0.5), "P2": 1.0}
    assert math.isnan(summarise(scores({"P2": [1.0]})).over_videos.interval), "of one video"


def test_over_users_is_the_metric_on_all_of_a_users_frames() -> None:
    """A long video counts more, and recognition once is recognition: `user_score` of the code.

    80 frames of which the last 8 are right, then 20 of which all are: 28 of 100 frames are right,
    and 72 of 100 pass before the first of them.
    """
    videos = [VideoScore("P1", 80, 0.1, 0.9, 0.0), VideoScore("P1", 20, 1.0, 0.0, 1.0)]
    pooled, mean = (summarise(videos, pooled=flag).over_users.mean for flag in (True, False))
    assert (pooled, mean) == (pytest.approx(0.28), pytest.approx(0.55))
    pooled, mean = (
        summarise(videos, "frames_to_recognition", pooled=flag).over_users.mean
        for flag in (True, False)
    )
    assert (pooled, mean) == (pytest.approx(0.72), pytest.approx(0.45))
    never = [VideoScore("P1", 50, 0.0, 1.0, 0.0), VideoScore("P1", 50, 0.5, 0.02, 1.0)]
    found = summarise(never, "frames_to_recognition").over_users.mean
    assert found == pytest.approx(0.51), "the first video counts whole: nothing in it was right"


def test_pooled_frames_give_what_the_concatenated_predictions_give() -> None:
    videos = score_videos(TASK, PREDICTIONS)
    right = [p == label for p, label in zip(PREDICTIONS, TASK.query_labels, strict=True)]
    assert summarise(videos).over_users.mean == pytest.approx(sum(right) / len(right))
    found = summarise(videos, "frames_to_recognition").over_users.mean
    assert found == pytest.approx(right.index(True) / len(right))


def test_as_many_predictions_as_frames() -> None:
    with pytest.raises(ValueError, match="shorter"):
        score_videos(TASK, PREDICTIONS[:-1])
