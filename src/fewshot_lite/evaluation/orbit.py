"""What ORBIT reports besides frame accuracy, and what its server takes, from a run's records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fewshot_lite.core.errors import UsageError
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol
from fewshot_lite.evaluation.scores import TaskRecord
from fewshot_lite.published.orbit.metrics import OrbitFigures, score_videos, summarise
from fewshot_lite.published.orbit.protocol import OrbitProtocol
from fewshot_lite.published.orbit.submission import Submission

#: By the model's name, by the metric.
OrbitTable = dict[str, dict[str, OrbitFigures]]


def orbit_table(
    protocol: EvaluationProtocol, records: Sequence[TaskRecord], names: Sequence[str]
) -> OrbitTable:
    """The metrics of the protocol's version, over videos and over users; empty for others."""
    if not isinstance(protocol, OrbitProtocol) or not records:
        return {}
    tasks = [(record, protocol.task(record.number)) for record in records]
    table: OrbitTable = {}
    for name in names:
        videos = [
            video
            for record, task in tasks
            for video in score_videos(
                task, record.scores[name].predictions or (), number=record.number
            )
        ]
        table[name] = {
            metric: summarise(videos, metric=metric) for metric in protocol.rules.metrics
        }
    return table


def require_orbit(protocol: EvaluationProtocol, submission: Path) -> None:
    """Raise UsageError, before the work is done, if a submission cannot come of a protocol."""
    if not isinstance(protocol, OrbitProtocol):
        raise UsageError(f"--submission {submission}: for ORBIT's protocol only. Leave it out.")


def write_submission(
    protocol: EvaluationProtocol,
    records: Sequence[TaskRecord],
    name: str,
    path: Path,
    *,
    force: bool,
) -> list[str]:
    """Write a model's predictions as the challenge's server takes them.

    Returns:
        Why the server would not score them, if so: a sentence each.

    Raises:
        UsageError: the protocol is another one.
    """
    require_orbit(protocol, path)
    submission = Submission()
    for record in records:
        submission.add(protocol.task(record.number), record.scores[name].predictions or ())
    submission.write(path, force=force)
    return submission.problems()
