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

#: The server wants as many tasks of every user.
CHALLENGE_TASKS = 50

#: By user, the tasks as the server wants them.
Submission = dict[str, list[dict[str, list[str] | dict[str, dict[str, int]]]]]


def collect(answered: Iterable[tuple[EvaluationTask, Sequence[int]]]) -> Submission:
    """The predictions of tasks of `published.orbit.protocol.OrbitProtocol`, in their order.

    Args:
        answered: each task with the class 0..K-1 of each of its Q query frames.

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
    """Why the server would not score it, if so: a sentence each."""
    return [
        f"{user}: {len(tasks)} tasks; the challenge wants {CHALLENGE_TASKS}."
        for user, tasks in submission.items()
        if len(tasks) != CHALLENGE_TASKS
    ]


def write(submission: Submission, path: Path, *, force: bool = False) -> None:
    """Write the JSON, whole or not at all.

    Raises:
        UsageError: the file exists and `force` is not set, or its folder does not.
        FewshotError: nothing to write, or it cannot be written.
    """
    if not submission:
        raise FewshotError(f"{path}: there are no predictions to write.")
    check_output(path, force=force, flag="--submission")
    with failing_as(path), atomic_path(path, force=force) as temporary:
        temporary.write_text(dumps(submission), encoding="utf-8")


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
        UsageError, FewshotError: as `write`.
    """
    require_orbit(outcome.protocol, path)
    tasks = ((r, outcome.protocol.task(r.number)) for r in outcome.records)
    found = collect((task, r.scores[name].predictions or ()) for r, task in tasks)
    write(found, path, force=force)
    return problems(found)
