"""ORBIT's metrics: how well, how soon and whether at all the object of a video is recognised.

Defined in Massiceti et al. 2021, section 5, and utils/eval_metrics.py of
https://github.com/microsoft/ORBIT-Dataset. Since December 2022 frame accuracy alone is reported,
since frames are then drawn, not all predicted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from fewshot_lite.core.intervals import half_width
from fewshot_lite.evaluation.protocols.base import EvaluationTask
from fewshot_lite.evaluation.results import Figure
from fewshot_lite.published.orbit.protocol import Metric


@dataclass(frozen=True)
class VideoScore:
    """The metrics of one query video in one task, each in 0..1."""

    user: str
    frames: int
    frame_accuracy: float
    """Share of frames recognised."""
    frames_to_recognition: float
    """Share of the video before the first recognised frame; 1 if there is none. Low is good."""
    video_accuracy: float
    """1 if the most frequent prediction is right (of equally frequent ones the first class)."""


@dataclass(frozen=True)
class OrbitFigures:
    """One metric, averaged in the published ways; intervals are 1.96·std/√n.

    The published code divides variances by n; n - 1 is what all other intervals here have.
    """

    videos: int
    over_videos: Figure
    """Each video of each task alike: what the published tables and the challenge rank by."""
    over_users: Figure
    """Each user alike."""
    by_user: dict[str, float]


def score_videos(task: EvaluationTask, predictions: Sequence[int]) -> list[VideoScore]:
    """Score a task's predictions by video.

    Args:
        task: of `OrbitProtocol`: frames of a video in order of time.
        predictions: the class 0..K-1 of each of its Q query frames.

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
            frames=len(found),
            frame_accuracy=found.count(labels[video]) / len(found),
            frames_to_recognition=frames_to_recognition(labels[video], found),
            video_accuracy=video_accuracy(labels[video], found),
        )
        for video, found in predicted.items()
    ]


def frames_to_recognition(label: int, predictions: Sequence[int]) -> float:
    """Position of the first right frame over the number of frames; 1 if none is right."""
    right = [position for position, prediction in enumerate(predictions) if prediction == label]
    return right[0] / len(predictions) if right else 1.0


def video_accuracy(label: int, predictions: Sequence[int]) -> float:
    """1 if the label is the most frequent prediction, of ties the lowest, else 0."""
    counts = Counter(predictions)
    most = min(counts, key=lambda prediction: (-counts[prediction], prediction))
    return float(most == label)


def summarise(
    scores: Sequence[VideoScore], metric: Metric = "frame_accuracy", *, pooled: bool = True
) -> OrbitFigures:
    """Averages of a metric over videos and over users.

    Args:
        scores: in order of tasks, one or more.
        pooled: a user's score is the metric on all frames of all the user's tasks in a row, as the
            code of 2022 has it; False: the mean over the user's videos, as the code of 2021 has it.
    """
    by_user: dict[str, list[VideoScore]] = {}
    for score in scores:
        by_user.setdefault(score.user, []).append(score)
    values: list[float] = [getattr(score, metric) for score in scores]
    users = {
        user: _pooled(found, metric) if pooled else fmean(getattr(s, metric) for s in found)
        for user, found in by_user.items()
    }
    return OrbitFigures(len(scores), _figure(values), _figure(list(users.values())), users)


def _pooled(videos: Sequence[VideoScore], metric: Metric) -> float:
    """The metric on all frames of some videos; video accuracy is one of videos alone: its mean."""
    if metric == "video_accuracy":
        return fmean(video.video_accuracy for video in videos)
    total = sum(video.frames for video in videos)
    if metric == "frame_accuracy":
        return sum(video.frames * video.frame_accuracy for video in videos) / total
    before = 0.0
    for video in videos:
        before += video.frames * video.frames_to_recognition
        if video.frames_to_recognition < 1:
            break
    return before / total


def _figure(values: Sequence[float]) -> Figure:
    return Figure(fmean(values), half_width(values, normal=True))
