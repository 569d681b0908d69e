"""ORBIT's metrics: how well, how soon and whether at all the object of a video is recognised.

Defined in Massiceti et al. 2021, section 5, and utils/eval_metrics.py of
https://github.com/microsoft/ORBIT-Dataset: each is a number a video. Since December 2022 frame
accuracy alone is reported, since frames are then drawn, not all predicted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_lite.evaluation.protocols.base import EvaluationTask
from fewshot_lite.published.orbit.protocol import Metric


@dataclass(frozen=True)
class VideoScore:
    """The metrics of one query video in one task, each in 0..1."""

    user: str
    task: int
    video: str
    frame_accuracy: float
    """Share of frames recognised."""
    frames_to_recognition: float
    """Share of the video before the first recognised frame; 1 if there is none. Low is good."""
    video_accuracy: float
    """1 if the most frequent prediction is right (of equally frequent ones the first class)."""


@dataclass(frozen=True)
class Figure:
    """A mean and half of its 95 % interval: 1.96 · std / √n, with variances over n - 1.

    The published code divides by n; n - 1 is what all other intervals here have.
    """

    mean: float
    half_width: float
    """NaN where there is one value only."""
    count: int


@dataclass(frozen=True)
class OrbitFigures:
    """One metric, averaged in the published ways."""

    over_videos: Figure
    """Each video of each task alike: what the published tables and the challenge rank by."""
    over_users: Figure
    """Each user's mean over their videos alike."""
    by_user: dict[str, Figure]
    """Each user's videos."""


def score_videos(
    task: EvaluationTask, predictions: Sequence[int], number: int = 0
) -> list[VideoScore]:
    """Score a task's predictions by video.

    Args:
        task: of `OrbitProtocol`: frames of a video in order of time.
        predictions: the class 0..K-1 of each of its Q query frames.
        number: of the task, to tell apart a user's tasks.

    Raises:
        ValueError: not as many predictions as query frames, or the task has no videos.
    """
    labels: dict[str, int] = {}
    predicted: dict[str, list[int]] = {}
    frames = zip(task.query_parts, task.query_labels, predictions, strict=True)
    for video, label, prediction in frames:
        labels.setdefault(video, label)
        predicted.setdefault(video, []).append(prediction)
    return [
        VideoScore(
            user=task.group,
            task=number,
            video=video,
            frame_accuracy=frame_accuracy(labels[video], frames_of),
            frames_to_recognition=frames_to_recognition(labels[video], frames_of),
            video_accuracy=video_accuracy(labels[video], frames_of),
        )
        for video, frames_of in predicted.items()
    ]


def frame_accuracy(label: int, predictions: Sequence[int]) -> float:
    """Share of a video's frames, one or more, that are predicted as its label."""
    return sum(prediction == label for prediction in predictions) / len(predictions)


def frames_to_recognition(label: int, predictions: Sequence[int]) -> float:
    """Position of the first right frame over the number of frames; 1 if none is right."""
    for position, prediction in enumerate(predictions):
        if prediction == label:
            return position / len(predictions)
    return 1.0


def video_accuracy(label: int, predictions: Sequence[int]) -> float:
    """1 if the label is the most frequent prediction, of ties the lowest, else 0."""
    counts = Counter(predictions)
    most = min(counts, key=lambda prediction: (-counts[prediction], prediction))
    return float(most == label)


def summarise(scores: Sequence[VideoScore], metric: Metric = "frame_accuracy") -> OrbitFigures:
    """Averages of a metric over videos and over users.

    Raises:
        ValueError: no scores.
    """
    by_user: dict[str, list[float]] = {}
    for score in scores:
        by_user.setdefault(score.user, []).append(getattr(score, metric))
    figures = {user: _figure(values) for user, values in by_user.items()}
    return OrbitFigures(
        over_videos=_figure([value for values in by_user.values() for value in values]),
        over_users=_figure([figure.mean for figure in figures.values()]),
        by_user=figures,
    )


def paired_difference(
    first: Sequence[VideoScore], second: Sequence[VideoScore], metric: Metric = "frame_accuracy"
) -> Figure:
    """How much higher the first model's metric is, over the same videos of the same tasks.

    Raises:
        ValueError: the two were not scored on the same videos, or on none.
    """

    def values(scores: Sequence[VideoScore]) -> dict[tuple[str, int, str], float]:
        return {(s.user, s.task, s.video): getattr(s, metric) for s in scores}

    one, other = values(first), values(second)
    if one.keys() != other.keys():
        raise ValueError("the scores are not of the same videos of the same tasks")
    return _figure([value - other[video] for video, value in one.items()])


def _figure(values: Sequence[float]) -> Figure:
    if not values:
        raise ValueError("no scores to average")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Figure(mean, math.nan, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Figure(mean, 1.96 * math.sqrt(variance / len(values)), len(values))
