"""Predictions for the server of the ORBIT Few-Shot Object Recognition Challenge.

The format is that of `TestEvaluator.save` in utils/eval_metrics.py of
https://github.com/microsoft/ORBIT-Dataset, for the challenge of 2023 (EvalAI, challenge 1896):

    {"P177": [{"task_object_list": ["bag", "keys"],
               "task_videos": {"P177--bag--clutter--ID": {"17": 0, "42": 1}}}, ...one a task],
     ...one a user}

Frames are named by their numbers, predictions by positions in the task's list of objects. The
table of ORBIT's metrics is made here, too, from the same records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import atomic_path, check_output, failing_as
from fewshot_lite.core.jsons import dumps
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol, EvaluationTask
from fewshot_lite.evaluation.session import Outcome
from fewshot_lite.published.orbit.layout import frame_number
from fewshot_lite.published.orbit.metrics import OrbitFigures, score_videos, summarise
from fewshot_lite.published.orbit.protocol import OrbitProtocol

#: The number of tasks of every user that the server requires.
CHALLENGE_TASKS = 50

#: The tasks of each user, in the server's format.
Submission = dict[str, list[dict[str, list[str] | dict[str, dict[str, int]]]]]


def collect(answered: Iterable[tuple[EvaluationTask, Sequence[int]]]) -> Submission:
    """Convert predictions on tasks of `OrbitProtocol` to the server's format.

    Args:
        answered: each task with the predicted class 0..K-1 of each of its Q query frames.

    Raises:
        ValueError: not as many predictions as frames, or one that is no class of the task.
        FewshotError: a frame whose name has no number.
    """
    users: Submission = {}
    for task, predictions in answered:
        videos: dict[str, dict[str, int]] = {}
        frames = zip(task.query, task.query_parts, predictions, strict=True)
        for source, video, prediction in frames:
            if not 0 <= prediction < len(task.class_names):
                raise ValueError(f"{prediction} is no class of a {len(task.class_names)}-way task")
            name = Path(str(source)).name
            videos.setdefault(video, {})[str(frame_number(name))] = int(prediction)
        tasks = users.setdefault(task.group, [])
        tasks.append({"task_object_list": list(task.class_names), "task_videos": videos})
    return users


def problems(submission: Submission) -> list[str]:
    """Return the reasons why the server would not score it, a sentence each."""
    return [
        f"{user}: {len(tasks)} tasks; the challenge wants {CHALLENGE_TASKS}."
        for user, tasks in submission.items()
        if len(tasks) != CHALLENGE_TASKS
    ]


def write(submission: Submission, path: Path, *, force: bool = False) -> None:
    """Write a submission as JSON.

    Raises:
        UsageError: the file exists and `force` is not set, or its folder does not.
        FewshotError: nothing to write, or it cannot be written.
    """
    if not submission:
        raise FewshotError(f"{path}: there are no predictions to write.")
    check_output(path, force=force, flag="--submission")
    with failing_as(path), atomic_path(path, force=force) as temporary:
        temporary.write_text(dumps(submission), encoding="utf-8")


#: The figures by model and metric.
OrbitTable = dict[str, dict[str, OrbitFigures]]


def orbit_table(outcome: Outcome) -> OrbitTable:
    """Return ORBIT's metrics of a comparison; empty for other protocols."""
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
    """Raise UsageError if the protocol is not ORBIT's."""
    if not isinstance(protocol, OrbitProtocol):
        raise UsageError(f"--submission {submission}: for ORBIT's protocol only. Leave it out.")


def write_submission(outcome: Outcome, name: str, path: Path, *, force: bool) -> list[str]:
    """Write a model's predictions for the challenge's server.

    Returns:
        The reasons why the server would not score them, a sentence each.

    Raises:
        UsageError: the protocol is not ORBIT's.
        UsageError, FewshotError: as `write`.
    """
    require_orbit(outcome.protocol, path)
    tasks = ((r, outcome.protocol.task(r.number)) for r in outcome.records)
    submission = collect((task, r.scores[name].predictions or ()) for r, task in tasks)
    write(submission, path, force=force)
    return problems(submission)
