"""Predictions as the server of the ORBIT Few-Shot Object Recognition Challenge takes them.

The format is that of `TestEvaluator.save` in utils/eval_metrics.py of
https://github.com/microsoft/ORBIT-Dataset, for the challenge of 2023 (EvalAI, challenge 1896):

    {"P177": [{"task_object_list": ["bag", "keys"],
               "task_videos": {"P177--bag--clutter--ID": {"17": 0, "42": 1}}}, ...one a task],
     ...one a user}

Frames are named by their numbers, predictions by positions in the task's list of objects. The
metrics besides frame accuracy come from a run's records, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import atomic_path, check_output
from fewshot_lite.core.jsons import dumps
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol, EvaluationTask
from fewshot_lite.evaluation.session import Outcome
from fewshot_lite.published.orbit.layout import frame_number
from fewshot_lite.published.orbit.metrics import OrbitFigures, score_videos, summarise
from fewshot_lite.published.orbit.protocol import OrbitProtocol

#: The server wants as many tasks of every user.
CHALLENGE_TASKS = 50

_Task = dict[str, list[str] | dict[str, dict[str, int]]]


class Submission:
    """Collects the predictions of tasks, in order of their numbers, and writes them."""

    def __init__(self) -> None:
        self._users: dict[str, list[_Task]] = {}

    def add(self, task: EvaluationTask, predictions: Sequence[int]) -> None:
        """Note the predictions of the next task of a user.

        Args:
            task: of `published.orbit.protocol.OrbitProtocol`.
            predictions: the class 0..K-1 of each of its Q query frames.

        Raises:
            ValueError: not as many predictions as frames, or one that is no class of the task.
            FewshotError: a frame whose name has no number.
        """
        videos: dict[str, dict[str, int]] = {}
        frames = zip(task.query, task.query_parts, predictions, strict=True)
        for source, video, prediction in frames:
            if not 0 <= prediction < len(task.class_names):
                raise ValueError(f"{prediction} is no class of a {len(task.class_names)}-way task")
            name = Path(str(source)).name
            videos.setdefault(video, {})[str(frame_number(name))] = int(prediction)
        entry: _Task = {"task_object_list": list(task.class_names), "task_videos": videos}
        self._users.setdefault(task.group, []).append(entry)

    def problems(self) -> list[str]:
        """Why the server would not score it, if so: a sentence each."""
        return [
            f"{user}: {len(tasks)} tasks; the challenge wants {CHALLENGE_TASKS}."
            for user, tasks in self._users.items()
            if len(tasks) != CHALLENGE_TASKS
        ]

    def write(self, path: Path, *, force: bool = False) -> None:
        """Write the JSON, whole or not at all.

        Raises:
            UsageError: the file exists and `force` is not set, or its folder does not.
            FewshotError: nothing to write, or it cannot be written.
        """
        if not self._users:
            raise FewshotError(f"{path}: there are no predictions to write.")
        check_output(path, force=force, flag="--submission")
        try:
            with atomic_path(path, force=force) as temporary:
                temporary.write_text(dumps(self._users), encoding="utf-8")
        except OSError as error:
            raise FewshotError(f"{path}: cannot be written ({error.strerror}).") from None


#: By the model's name, by the metric.
OrbitTable = dict[str, dict[str, OrbitFigures]]


def orbit_table(outcome: Outcome) -> OrbitTable:
    """The metrics of the protocol's version, over videos and over users; empty for others."""
    protocol = outcome.protocol
    if not isinstance(protocol, OrbitProtocol) or not outcome.records:
        return {}
    tasks = [(record, protocol.task(record.number)) for record in outcome.records]
    table: OrbitTable = {}
    for name in outcome.comparison.names:
        videos = [
            video
            for record, task in tasks
            for video in score_videos(task, record.scores[name].predictions or ())
        ]
        table[name] = {
            metric: summarise(videos, metric, pooled=protocol.rules.pooled)
            for metric in protocol.rules.metrics
        }
    return table


def require_orbit(protocol: EvaluationProtocol, submission: Path) -> None:
    """Raise UsageError, before the work is done, if a submission cannot come of a protocol."""
    if not isinstance(protocol, OrbitProtocol):
        raise UsageError(f"--submission {submission}: for ORBIT's protocol only. Leave it out.")


def write_submission(outcome: Outcome, name: str, path: Path, *, force: bool) -> list[str]:
    """Write a model's predictions as the challenge's server takes them.

    Returns:
        Why the server would not score them, if so: a sentence each.

    Raises:
        UsageError: the protocol is another one.
    """
    require_orbit(outcome.protocol, path)
    submission = Submission()
    for record in outcome.records:
        task = outcome.protocol.task(record.number)
        submission.add(task, record.scores[name].predictions or ())
    submission.write(path, force=force)
    return submission.problems()
