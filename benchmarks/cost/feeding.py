"""The data side of meta-training beside the training step's need, and the time spent waiting.

    python -m benchmarks.cost.feeding DATA [--image-size 64 --workers 0,1 --classes 40]

For images in memory, in a file of a cache and decoded at each use:

- `prepared`: tasks and images a second that are prepared back to back, nothing else running;
- `waiting`: share of the time that a loop of LITE steps waits for tasks, as `meta-train` logs it,
  and its tasks a second. The first tasks are left out: nothing was prepared ahead of them.

`needed` is what the steps would take if tasks were there at once; crops and colours are made on the
training device and are part of the step (`augmenting` is their share).
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import fewshot_lite.training.tasks
from benchmarks.common import emit, numbers, random_learner
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--classes", type=int, default=40, help="the first ones; 0 for all")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--min-way", type=int, default=5)
    parser.add_argument("--max-way", type=int, default=20)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--learner", default="simple-cnaps")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tasks", type=int, default=12)
    parser.add_argument("--workers", type=numbers, default="0,1", help="processes; 0 is a thread")
    parser.add_argument("--from", dest="sources", default="memory,cache,disk")
    args = parser.parse_args()
    device = pick_device(args.device)
    folder = scan_classes(args.data)
    if args.classes:
        folder = folder.select(set(folder.class_names[: args.classes]))
    config = replace(
        MetaTrainConfig(), precision=args.precision, min_way=args.min_way, max_way=args.max_way
    )
    step = _Step(args, config, device)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for source in args.sources.split(","):
            start = time.perf_counter()
            tasks = _open(source, folder, config, args.image_size, Path(scratch))
            opened = time.perf_counter() - start
            for workers in args.workers:
                row = {"images": source, "workers": workers, "opened_seconds": round(opened, 2)}
                row |= {"prepared": _prepared(tasks, args.tasks, device, workers)}
                row |= step.loop(tasks, args.tasks, workers)
                rows.append(row)
        needed = step.needed(_open("memory", folder, config, args.image_size, Path(scratch)))
    emit("feeding", vars(args), {"photos": len(folder.paths), "needed": needed, "rows": rows})


def _open(
    source: str, folder: LabelledImages, config: MetaTrainConfig, size: int, scratch: Path
) -> TrainingTasks:
    fewshot_lite.training.tasks._MEMORY = 0 if source == "disk" else 64 * 2**30
    cache = Cache(scratch) if source == "cache" else None
    return TrainingTasks([folder], config, size, None, cache)


def _prepared(
    tasks: TrainingTasks, count: int, device: torch.device, workers: int
) -> dict[str, float]:
    """Rates of preparing, after the first tasks."""
    if workers == 0:  # the thread by itself is this process by itself
        start, images = time.perf_counter(), 0
        for number in range(count):
            images += len(tasks.prepare(number).pixels)
    else:
        with Prefetch(tasks, range(count + _WARM_UP), device, workers=workers) as feed:
            for _ in range(_WARM_UP):
                feed.next()
            start, images = time.perf_counter(), 0
            for _ in range(count):
                task = feed.next()
                images += len(task.support) + len(task.query)
    seconds = time.perf_counter() - start
    return {
        "tasks_per_second": round(count / seconds, 2),
        "images_per_second": round(images / seconds),
    }


class _Step:
    """A learner and its step."""

    def __init__(
        self, args: argparse.Namespace, config: MetaTrainConfig, device: torch.device
    ) -> None:
        self.device, self.count = device, args.tasks
        self.learner = random_learner(args.learner, args.backbone, args.image_size).to(device)
        self.learner.to(memory_format=torch.channels_last)
        depthwise = has_depthwise_convolutions(self.learner.backbone)
        self.cast = functools.partial(autocast, device, config.precision, depthwise=depthwise)
        self.micro_batch = pick_micro_batch(device, args.image_size)

    def __call__(self, task: Task) -> None:
        lite_step(
            self.learner,
            task,
            torch.Generator().manual_seed(0),
            micro_batch=self.micro_batch,
            cast=self.cast,
        )

    def needed(self, tasks: TrainingTasks) -> dict[str, float]:
        """Steps whose tasks are there."""
        ready = [tasks.prepare(number) for number in range(self.count)]
        images = sum(len(task.pixels) for task in ready)
        self(ready[0].on(self.device))
        augmenting = 0.0
        start = time.perf_counter()
        for prepared in ready:
            before = time.perf_counter()
            task = prepared.on(self.device)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            augmenting += time.perf_counter() - before
            self(task)
        seconds = time.perf_counter() - start
        return {
            "tasks_per_second": round(self.count / seconds, 2),
            "images_per_second": round(images / seconds),
            "augmenting": round(augmenting / seconds, 4),
        }

    def loop(self, tasks: TrainingTasks, count: int, workers: int) -> dict[str, Any]:
        """Share of waiting as `meta-train` has it."""
        with Prefetch(tasks, range(count + _WARM_UP), self.device, workers=workers) as feed:
            for _ in range(_WARM_UP):
                self(feed.next())
            feed.share_waited()
            start = time.perf_counter()
            for _ in range(count):
                self(feed.next())
            seconds = time.perf_counter() - start
            waiting = feed.share_waited()
        return {"waiting": round(waiting, 4), "loop_tasks_per_second": round(count / seconds, 2)}


if __name__ == "__main__":
    main()
