"""The one way that benchmarks score models: the engine of `fewshot-lite evaluate`, on folders."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import say
from fewshot_lite.core.files import DEFAULT_BASE
from fewshot_lite.evaluation.caches import ImageCache
from fewshot_lite.evaluation.names import parse_models
from fewshot_lite.evaluation.protocols.folders import FolderProtocol
from fewshot_lite.evaluation.protocols.options import ProtocolOptions, parse_spans
from fewshot_lite.evaluation.session import Session, compare_models
from fewshot_lite.images.folders import ImageFolder

#: Baselines that take a thousand times as long, and see `--finetune-tasks` of the tasks.
_SLOW = ("finetune-film", "finetune")


def flags(models: str, ways: str = "5", queries: int = 10) -> dict[str, Any]:
    """Flags of tasks and models, as `benchmarks.common.arguments` takes them."""
    return {
        "models": (models, "as `fewshot-lite evaluate` takes them"),
        "baseline_backbone": DEFAULT_BASE,
        "ways": ways,
        "shots": "1,5",
        "queries": (queries, "of a class"),
        "tasks": (600, "of each set, way and shots"),
        "finetune_tasks": (60, f"of {' and '.join(_SLOW)}"),
        "image_size": (int, "other than each model's own"),
        "device": "auto",
        "seed": 0,
        "output": (Path, "a log, which the same command goes on from"),
    }


def score(
    folders: Sequence[ImageFolder], args: argparse.Namespace, query: ImageFolder | None = None
) -> dict[str, Any]:
    """All models on exactly the same tasks: accuracy, paired differences, calibration, cost."""
    names = parse_models(args.models.split(","), args.baseline_backbone)
    options = ProtocolOptions(
        ways=parse_spans("--ways", args.ways, least=2),
        shots=parse_spans("--shots", args.shots, least=1),
        queries=args.queries,
        tasks=args.tasks,
        seed=args.seed,
    )

    def open_data(images: ImageCache, size: int) -> FolderProtocol:
        return FolderProtocol(
            list(folders),
            options,
            query=query,
            find_unreadable=lambda sources: images.problems(sources, size),
        )

    def progress(done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            say(f"{done} of {total} tasks")

    outcome = compare_models(
        names,
        open_data,
        Session(device=args.device, image_size=args.image_size),
        log=args.output,
        limits={name.text: args.finetune_tasks for name in names if name.baseline in _SLOW},
        on_done=progress,
    )
    return outcome.comparison.to_json()
