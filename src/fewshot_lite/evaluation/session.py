"""A comparison from beginning to end: open models and data, score the tasks, summarise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_lite.core.progress import OnDone
from fewshot_lite.core.ranks import Ranks
from fewshot_lite.evaluation.caches import ImageCache
from fewshot_lite.evaluation.engine import run
from fewshot_lite.evaluation.log import TaskLog
from fewshot_lite.evaluation.names import ModelName
from fewshot_lite.evaluation.opening import Opened, open_models
from fewshot_lite.evaluation.opening import Session as Session
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol
from fewshot_lite.evaluation.results import Comparison, compare
from fewshot_lite.evaluation.scores import TaskRecord
from fewshot_lite.images.folders import Skipped

#: Opens the protocol when the size of images is known, so that images are read only once.
OpenData = Callable[[ImageCache, int], EvaluationProtocol]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a comparison."""

    comparison: Comparison
    skipped: tuple[Skipped, ...]
    """Photos left out because they cannot be read."""
    protocol: EvaluationProtocol
    records: tuple[TaskRecord, ...]
    """The records of the finished tasks, by number."""


def compare_models(
    names: Sequence[ModelName],
    open_data: OpenData,
    session: Session,
    *,
    log: Path | None = None,
    force: bool = False,
    on_done: OnDone = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
    ranks: Ranks | None = None,
) -> Outcome:
    """Compare models on the tasks of a protocol.

    Args:
        names: the models; the others are compared with the first.
        open_data: opens the protocol, given the cache of images and the first model's image size.
        log: the file of each task's scores, from which an interrupted comparison continues.
        force: overwrite a log of another comparison.
        ranks: processes that share the tasks; all return the same, the first one writes. See
            `engine.run` for `ranks`, `on_done` and `stop`.

    Raises:
        UsageError, FewshotError: models, data or a log that cannot be used.
    """
    ranks = ranks or Ranks()
    opened = open_models(names, session)
    methods = [model.method for model in opened]
    images = ImageCache()
    protocol = open_data(images, methods[0].image_size)
    config = _config(opened, protocol, session)
    facts = {name.replace("_", " "): value for name, value in config.items()}
    ranks.check_same(facts, "All need the same version, models, data and flags.")
    with TaskLog(log if ranks.first else None, config, force=force) as tasks:
        finished = run(methods, protocol, tasks, images, on_done=on_done, stop=stop, ranks=ranks)
        records = tuple(tasks.records[number] for number in sorted(tasks.records))
    comparison = compare(
        records,
        [model.description for model in opened],
        protocol=protocol.name,
        sections=protocol.sections,
        normal=protocol.normal_intervals,
        notes=[*protocol.notes, *_seen_in_training(opened, protocol)],
        finished=finished,
    )
    skipped = tuple(Skipped(Path(str(s)), why) for s, why in protocol.unreadable.items())
    return Outcome(comparison, skipped, protocol, records)


def _seen_in_training(opened: Sequence[Opened], protocol: EvaluationProtocol) -> Iterator[str]:
    """Yield a note for each model that was trained on classes of the protocol, by their names."""
    for model in opened:
        for data_set, names in protocol.classes.items():
            seen = sorted(set(names) & set(model.trained_on.get(data_set, ())))
            if seen:
                some = ", ".join(map(repr, seen[:3])) + (", …" if len(seen) > 3 else "")
                yield (
                    f"{model.method.name} was trained on {len(seen)} of the {len(names)} classes "
                    f"of {data_set} ({some}): its accuracy there is not that on new classes."
                )


def _config(
    opened: Sequence[Opened], protocol: EvaluationProtocol, session: Session
) -> dict[str, Any]:
    """Return all that scores depend on: a log continues only if it is the same."""
    models = [{**m.description, "tasks": None} for m in opened]  # a field of existing logs
    return {
        "models": sorted(models, key=lambda model: str(model["name"])),
        "protocol": protocol.name,
        "tasks": len(protocol),
        "groups": list(protocol.groups),
        "images": _fingerprint(protocol),
        "precision": session.precision,
        "device": opened[0].method.device.type,
        "fine_tuning": {k: v for k, v in session.fine_tuning.__dict__.items() if v is not None},
    }


def _fingerprint(protocol: EvaluationProtocol) -> str:
    """Return a hash of the first and the last task, by the names of images without folders."""
    digest = hashlib.sha256()
    for number in (0, len(protocol) - 1):
        task = protocol.task(number)
        names = [s.name if isinstance(s, Path) else str(s) for s in (*task.support, *task.query)]
        digest.update(repr((task.class_names, names, task.support_labels)).encode())
    return digest.hexdigest()[:16]
