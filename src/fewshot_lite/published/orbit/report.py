"""ORBIT's metrics besides frame accuracy, and its submission file, from a run's records."""

from __future__ import annotations

from pathlib import Path

from fewshot_lite.core.errors import UsageError
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol
from fewshot_lite.evaluation.session import Outcome
from fewshot_lite.published.orbit.metrics import OrbitFigures, score_videos, summarise
from fewshot_lite.published.orbit.protocol import OrbitProtocol
from fewshot_lite.published.orbit.submission import Submission

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
