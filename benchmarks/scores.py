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


def add_arguments(parser: argparse.ArgumentParser, models: str, ways: str = "5") -> None:
    """Flags of tasks and models."""
    parser.add_argument("--models", default=models, help="as `fewshot-lite evaluate` takes them")
    parser.add_argument("--baseline-backbone", default=DEFAULT_BASE)
    parser.add_argument("--ways", default=ways)
    parser.add_argument("--shots", default="1,5")
    parser.add_argument("--queries", type=int, default=10, help="of a class")
    parser.add_argument("--tasks", type=int, default=600, help="of each set, way and shots")
    parser.add_argument("--finetune-tasks", type=int, default=60, help=f"of {' and '.join(_SLOW)}")
    parser.add_argument("--image-size", type=int, help="other than each model's own")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="a log, which the same command goes on from")


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
