"""A whole comparison: open models and data, run what is not done yet, sum up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_lite.core.config import Precision
from fewshot_lite.core.devices import pick_device
from fewshot_lite.core.ranks import Ranks, device_name
from fewshot_lite.evaluation.caches import ImageCache
from fewshot_lite.evaluation.finetuning import FineTuning
from fewshot_lite.evaluation.log import TaskLog
from fewshot_lite.evaluation.names import ModelName
from fewshot_lite.evaluation.opening import Opened, OpenSettings, open_models
from fewshot_lite.evaluation.orbit import OrbitTable, orbit_table
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol
from fewshot_lite.evaluation.protocols.registry import sections_of
from fewshot_lite.evaluation.results import Comparison, compare
from fewshot_lite.evaluation.running import run
from fewshot_lite.evaluation.scores import TaskRecord
from fewshot_lite.images.folders import Skipped

#: Opens the data once the size of images is known: images are then read once, not twice.
OpenData = Callable[[ImageCache, int], EvaluationProtocol]


@dataclass(frozen=True)
class Session:
    """How to run a comparison. `micro_batch` does not change accuracies."""

    device: str = "auto"
    precision: Precision = "auto"
    image_size: int | None = None
    micro_batch: int = 64
    fine_tuning: FineTuning = FineTuning()  # noqa: RUF009 (frozen)


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    comparison: Comparison
    skipped: tuple[Skipped, ...]
    """Photos left out because they cannot be read."""
    orbit: OrbitTable
    """ORBIT's own metrics; empty for other protocols."""
    protocol: EvaluationProtocol
    records: tuple[TaskRecord, ...]
    """Of the tasks that are done, in their order."""


def compare_models(
    names: Sequence[ModelName],
    open_data: OpenData,
    session: Session,
    *,
    log: Path | None = None,
    force: bool = False,
    limits: dict[str, int] | None = None,
    on_done: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    ranks: Ranks | None = None,
) -> Outcome:
    """Compare models on the tasks of a protocol.

    Args:
        names: the models, the one that the others are compared with first.
        open_data: makes the protocol; called with the cache of images and the first model's size.
        log: where each task's scores go as they come, to go on from; none if not given.
        force: overwrite a log of another comparison.
        limits: by a model's name, on how many tasks of each group it is run.
        on_done, stop: as `running.run` has them.
        ranks: processes that share the tasks out; all return the same, the first one writes.

    Raises:
        UsageError, FewshotError: models, data or a log that cannot be used.
    """
    ranks = ranks or Ranks()
    device = pick_device(device_name(session.device))
    settings = OpenSettings(
        device, session.precision, session.micro_batch, session.image_size, session.fine_tuning
    )
    opened = open_models(names, settings)
    images = ImageCache()
    protocol = open_data(images, opened[0].method.image_size)
    config = _config(opened, protocol, session, device.type, limits or {})
    facts = {name.replace("_", " "): value for name, value in config.items()}
    ranks.check_same(facts, "All need the same version, models, data and flags.")
    with TaskLog(log if ranks.first else None, config, force=force) as tasks:
        finished = run(
            [model.method for model in opened],
            protocol,
            tasks,
            images,
            tasks=limits,
            on_done=on_done,
            stop=stop,
            ranks=ranks,
        )
        records = [tasks.records[number] for number in sorted(tasks.records)]
    comparison = compare(
        records,
        [model.description for model in opened],
        protocol=protocol.name,
        sections=sections_of(protocol),
        notes=protocol.notes,
        finished=finished,
    )
    unreadable = getattr(protocol, "unreadable", {})
    skipped = tuple(Skipped(path, reason) for path, reason in unreadable.items())
    orbit = orbit_table(protocol, records, comparison.names)
    return Outcome(comparison, skipped, orbit, protocol, tuple(records))


def _config(
    opened: Sequence[Opened],
    protocol: EvaluationProtocol,
    session: Session,
    device: str,
    limits: dict[str, int],
) -> dict[str, Any]:
    """All that scores depend on: a log is gone on with only if it is the same."""
    models = [{**m.description, "tasks": limits.get(m.method.name)} for m in opened]
    return {
        "models": sorted(models, key=lambda model: str(model["name"])),
        "protocol": protocol.name,
        "tasks": len(protocol),
        "groups": list(protocol.groups),
        "images": _fingerprint(protocol),
        "precision": session.precision,
        "device": device,
        "fine_tuning": {k: v for k, v in session.fine_tuning.__dict__.items() if v is not None},
    }


def _fingerprint(protocol: EvaluationProtocol) -> str:
    """A hash of the first and of the last task: of its images' names, not of where they lie."""
    digest = hashlib.sha256()
    for number in (0, len(protocol) - 1):
        task = protocol.task(number)
        names = [s.name if isinstance(s, Path) else str(s) for s in (*task.support, *task.query)]
        digest.update(repr((task.class_names, names, task.support_labels)).encode())
    return digest.hexdigest()[:16]
