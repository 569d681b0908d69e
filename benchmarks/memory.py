"""Peak memory of one training step against the size of the support set.

    python benchmarks/memory.py --sizes 50,100,200,400,1000 [--modes lite,all,full]

Each point is a process of its own: two steps, then its peak resident memory (or, on a GPU, the peak
that torch allocated). "lite" back-propagates H images, "all" every image, "full" is plain
back-propagation through the whole task. The images themselves are counted apart.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from typing import Any

import torch

from common import emit
from fewshot_lite.core.devices import pick_device, pick_micro_batch
from fewshot_lite.lite.baselines import full_step
from fewshot_lite.lite.step import lite_step
from tasks import random_learner, random_task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learner", default="simple-cnaps")
    parser.add_argument("--backbone", default="efficientnet_b0")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--way", type=int, default=10)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--h", type=int, default=40)
    parser.add_argument("--micro-batch", type=int, help="default: what meta-train would take")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--sizes", default="50,100,200,400,1000")
    parser.add_argument("--modes", default="lite,all")
    parser.add_argument("--point", nargs=2, metavar=("MODE", "N"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        print(json.dumps(measure(args, args.point[0], int(args.point[1]))))
        return
    rows = []
    for mode in args.modes.split(","):
        for number in args.sizes.split(","):
            command = [sys.executable, __file__, *sys.argv[1:], "--point", mode, number]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = "out of memory" if done.returncode == -9 else done.stderr[-300:]
                rows.append({"mode": mode, "support": int(number), "failed": reason})
            else:
                rows.append(json.loads(done.stdout))
            print(rows[-1], file=sys.stderr)
    emit("memory", vars(args), rows)


def measure(args: argparse.Namespace, mode: str, number: int) -> dict[str, Any]:
    """One point, in this process."""
    device = pick_device(args.device)
    micro_batch = args.micro_batch or pick_micro_batch(device, args.image_size)
    learner = random_learner(args.learner, args.backbone, args.image_size).to(device)
    before = peak(device)
    task = random_task(number, args.queries, args.way, args.image_size)
    images = task.support.numel() + task.query.numel()
    task = task.to(device)
    for step in range(2):
        if mode == "full":
            full_step(learner, task)
        else:
            lite_step(
                learner,
                task,
                torch.Generator().manual_seed(step),
                h=args.h if mode == "lite" else None,
                micro_batch=micro_batch,
            )
    mebibyte = 2**20
    return {
        "mode": mode,
        "support": number,
        "micro_batch": micro_batch,
        "peak_mib": round(peak(device) / mebibyte),
        "images_mib": round(images / mebibyte),
        "peak_without_images_mib": round((peak(device) - images) / mebibyte),
        "before_mib": round(before / mebibyte),
    }


def peak(device: torch.device) -> int:
    """Most bytes this process has held so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
