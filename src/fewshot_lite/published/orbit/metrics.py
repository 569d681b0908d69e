"""ORBIT's metrics of videos: frame accuracy, frames to recognition and video accuracy.

They are defined in Massiceti et al. 2021, section 5, and utils/eval_metrics.py of
https://github.com/microsoft/ORBIT-Dataset. Since December 2022 only frame accuracy is reported, as
frames are sampled.
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
    """The share of frames that are classified correctly."""
    frames_to_recognition: float
    """The share of the video before the first correct frame, 1 if there is none: low is good."""
    video_accuracy: float
    """1 if the most frequent prediction is correct (the first class among ties), else 0."""


@dataclass(frozen=True)
class OrbitFigures:
    """A metric averaged over videos and over users; intervals are 1.96·std/√n.

    Variances are divided by n - 1 as in all intervals here; the published code divides by n.
    """

    videos: int
    over_videos: Figure
    """The mean over the videos of all tasks, by which published tables and the challenge rank."""
    over_users: Figure
    """The mean over users."""
    by_user: dict[str, float]


def score_videos(task: EvaluationTask, predictions: Sequence[int]) -> list[VideoScore]:
    """Score a task's predictions by video.

    Args:
        task: a task of `OrbitProtocol`, whose frames are in order of time.
        predictions: the predicted class 0..K-1 of each of its Q query frames.

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
            frames=len(classes),
            frame_accuracy=classes.count(labels[video]) / len(classes),
            frames_to_recognition=frames_to_recognition(labels[video], classes),
            video_accuracy=video_accuracy(labels[video], classes),
        )
        for video, classes in predicted.items()
    ]


def frames_to_recognition(label: int, predictions: Sequence[int]) -> float:
    """Return the position of the first correct frame over the number of frames; 1 if none is."""
    return next((i / len(predictions) for i, k in enumerate(predictions) if k == label), 1.0)


def video_accuracy(label: int, predictions: Sequence[int]) -> float:
    """Return 1 if the label is the most frequent prediction, the lowest among ties, else 0."""
    counts = Counter(predictions)
    most = min(counts, key=lambda prediction: (-counts[prediction], prediction))
    return float(most == label)


def summarise(
    scores: Sequence[VideoScore], metric: Metric = "frame_accuracy", *, pooled: bool = True
) -> OrbitFigures:
    """Average a metric over videos and over users.

    Args:
        scores: one or more, in the order of tasks.
        pooled: whether a user's score is the metric on all frames of the user's tasks in a row, as
            in the code of 2022, or the mean over the user's videos, as in that of 2021.
    """
    by_user: dict[str, list[VideoScore]] = {}
    for score in scores:
        by_user.setdefault(score.user, []).append(score)
    values: list[float] = [getattr(score, metric) for score in scores]
    users = {
        user: _pooled(videos, metric) if pooled else fmean(getattr(s, metric) for s in videos)
        for user, videos in by_user.items()
    }
    return OrbitFigures(len(scores), _figure(values), _figure(list(users.values())), users)


def _pooled(videos: Sequence[VideoScore], metric: Metric) -> float:
    """Return the metric on all frames of some videos; for video accuracy, the mean over videos."""
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
