"""The data side of meta-training beside the training step's need, and the time spent waiting.

    python -m benchmarks.cost.feeding DATA [--image-size 64 --workers 0,1 --classes 40]

For images in memory, in a file of a cache and decoded at each use: tasks a second that one process
prepares back to back, nothing else running; and of a loop of LITE steps the share of the time that
it waits for tasks, as `meta-train` logs it, and its tasks a second. The first tasks are left out:
nothing was prepared ahead of them.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

import fewshot_lite.training.tasks
from benchmarks.common import Row, arguments, emit, random_learner
from fewshot_lite.core.devices import autocast, pick_device, pick_micro_batch
from fewshot_lite.images.folders import LabelledImages, scan_classes
from fewshot_lite.learners.task import Task
from fewshot_lite.lite.step import lite_step
from fewshot_lite.networks.backbone import has_depthwise_convolutions
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.prefetch import Prefetch
from fewshot_lite.training.tasks import Cache, TrainingTasks

_WARM_UP = 2


def main() -> None:
    args = arguments(
        __doc__,
        "data",
        classes=(40, "the first ones; 0 for all"),
        image_size=64,
        min_way=5,
        max_way=20,
        backbone="resnet18",
        learner="simple-cnaps",
        precision="auto",
        device="auto",
        tasks=12,
        workers=([0, 1], "processes; 0 is a thread"),
        sources="memory,cache,disk",
    )
    device = pick_device(args.device)
    folder = scan_classes(args.data)
    if args.classes:
        folder = folder.select(set(folder.class_names[: args.classes]))
    config = replace(
        MetaTrainConfig(), precision=args.precision, min_way=args.min_way, max_way=args.max_way
    )
    learner = random_learner(args.learner, args.backbone, args.image_size).to(device)
    learner.to(memory_format=torch.channels_last)
    depthwise = has_depthwise_convolutions(learner.backbone)
    cast = functools.partial(autocast, device, config.precision, depthwise=depthwise)
    micro_batch = pick_micro_batch(device, args.image_size)

    def step(task: Task) -> None:
        random = torch.Generator().manual_seed(0)
        lite_step(learner, task, random, micro_batch=micro_batch, cast=cast)

    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for source in args.sources.split(","):
            tasks = _open(source, folder, config, args.image_size, Path(scratch))
            rate = prepared(tasks, args.tasks)
            for workers in args.workers:
                row = {"images": source, "prepared_per_second": rate, "workers": workers}
                rows.append(row | loop(tasks, args.tasks, workers, device, step))
    emit("feeding", vars(args), {"photos": len(folder.paths), "rows": rows})


def _open(
    source: str, folder: LabelledImages, config: MetaTrainConfig, size: int, scratch: Path
) -> TrainingTasks:
    fewshot_lite.training.tasks._MEMORY = 0 if source == "disk" else 64 * 2**30
    cache = Cache(scratch) if source == "cache" else None
    return TrainingTasks([folder], config, size, None, cache)


def prepared(tasks: TrainingTasks, count: int) -> float:
    """Tasks a second that this process prepares, nothing else running."""
    tasks.prepare(0)
    start = time.perf_counter()
    for number in range(1, count + 1):
        tasks.prepare(number)
    return round(count / (time.perf_counter() - start), 2)


def loop(
    tasks: TrainingTasks,
    count: int,
    workers: int,
    device: torch.device,
    step: Callable[[Task], None],
) -> Row:
    """A loop of steps, with the share of waiting that `meta-train` logs."""
    with Prefetch(tasks, range(count + _WARM_UP), device, workers=workers) as feed:
        for _ in range(_WARM_UP):
            step(feed.next())
        feed.share_waited()
        start = time.perf_counter()
        for _ in range(count):
            step(feed.next())
        seconds = time.perf_counter() - start
        return {
            "waiting": round(feed.share_waited(), 4),
            "tasks_per_second": round(count / seconds, 2),
        }


if __name__ == "__main__":
    main()
