"""Large tasks of large images on one GPU: memory, time, the floor, bfloat16 against float32.

    python benchmarks/scale.py [--sizes 100,200,500,1000,10000 --way 50 --queries 500 --h 40]
    python benchmarks/scale.py --device cpu --small      # a trial of the script itself

Each point is a process of its own. A task of random uint8 images waits in (pinned) memory; timed,
as medians over the repeats: making it ready on the device (`task_on_device`: transfer, crops,
colours), the LITE step (`step`), and in turn with that its floor, the bare passes of the same
images (see step_time.py). `share_of_floor` is floor / step: 1 is what the passes alone take.
`peak_mib` is the most that torch allocated, images and weights included. `agreement` compares one
step in bfloat16 with the same in float32: relative error of the gradient, and share of the queries
that are classified alike.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
from typing import Any

import torch
from step_time import bare_passes, clock
from torch import Tensor

from common import emit
from fewshot_lite.core.devices import autocast, pick_device, pick_micro_batch
from fewshot_lite.data.augment import Augmentation, draw_views
from fewshot_lite.data.prepared_task import PreparedTask
from fewshot_lite.learners.base import Cast, Learner
from fewshot_lite.learners.task import Task
from fewshot_lite.lite.step import lite_step
from fewshot_lite.networks.backbone import has_depthwise_convolutions
from memory import peak
from tasks import random_learner, random_task

#: A trial of the script: seconds, and figures that mean nothing.
_SMALL: dict[str, Any] = {
    "backbone": "resnet18",
    "image_size": 32,
    "way": 3,
    "queries": 6,
    "h": 4,
    "sizes": "6,12",
    "repeats": 1,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a trial of the script, on any device")
    parser.add_argument("--learner", default="simple-cnaps")
    parser.add_argument("--backbone", default="efficientnet_b0")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--way", type=int, default=50)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--h", type=int, default=40)
    parser.add_argument("--micro-batch", type=int, help="default: what meta-train would take")
    parser.add_argument("--sizes", default="100,200,500,1000,10000")
    parser.add_argument("--precisions", default="float32,bfloat16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--point", nargs=2, metavar=("PRECISION", "N"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.small:
        vars(args).update(_SMALL)
    elif not torch.cuda.is_available():
        sys.exit(
            "benchmarks/scale.py: needs a CUDA device, and there is none here. "
            "--device cpu --small tries the script out."
        )
    if args.point:
        print(json.dumps(measure(args, args.point[0], int(args.point[1]))))
        return
    rows = []
    for precision in args.precisions.split(","):
        for number in args.sizes.split(","):
            command = [sys.executable, __file__, *sys.argv[1:], "--point", precision, number]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or [f"signal {-done.returncode}"])[-1]
                rows.append({"precision": precision, "support": int(number), "failed": reason})
            else:
                rows.append(json.loads(done.stdout))
            print(rows[-1], file=sys.stderr)
    emit("scale", vars(args), rows)


def measure(args: argparse.Namespace, precision: str, number: int) -> dict[str, Any]:
    """One point, in this process."""
    device = pick_device(args.device)
    micro_batch = args.micro_batch or pick_micro_batch(device, args.image_size)
    learner = random_learner(args.learner, args.backbone, args.image_size).to(device)
    learner.to(memory_format=torch.channels_last)
    depthwise = has_depthwise_convolutions(learner.backbone)

    def cast_of(name: str) -> Cast:
        return functools.partial(autocast, device, name, depthwise=depthwise)  # type: ignore[arg-type]

    cast = cast_of(precision)
    prepared = prepare(number, args)
    if device.type == "cuda":
        prepared = prepared.pin_memory()
    task = prepared.on(device)

    def step(cast: Cast = cast) -> None:
        random = torch.Generator().manual_seed(0)
        lite_step(learner, task, random, h=args.h, micro_batch=micro_batch, cast=cast)

    times: dict[str, list[float]] = {"task_on_device": [], "step": [], "floor": []}
    for repeat in range(args.repeats + 1):
        seconds = {
            "task_on_device": clock(lambda: prepared.on(device), device),
            "step": clock(step, device),
            "floor": clock(lambda: bare_passes(learner, task, args.h, micro_batch, cast), device),
        }
        for name, value in seconds.items() if repeat else ():  # the first round warms up
            times[name].append(value)
    medians = {name: sorted(values)[len(values) // 2] for name, values in times.items()}
    most = peak(device)
    return {
        "precision": precision,
        "support": number,
        "micro_batch": micro_batch,
        "peak_mib": round(most / 2**20),
        "seconds": {name: round(value, 4) for name, value in medians.items()},
        "seconds_a_task": round(medians["task_on_device"] + medians["step"], 4),
        "share_of_floor": round(medians["floor"] / medians["step"], 3),
        "agreement": agreement(learner, task, args, micro_batch, cast, cast_of("float32")),
    }


def prepare(number: int, args: argparse.Namespace) -> PreparedTask:
    """A task of random bytes, as a feed hands it out."""
    task = random_task(number, args.queries, args.way, args.image_size)
    random = torch.Generator().manual_seed(1)
    flip = torch.ones(number + args.queries, dtype=torch.bool)
    return PreparedTask(
        number=0,
        pixels=torch.cat([task.support, task.query]),
        support_labels=task.support_labels,
        query_labels=task.query_labels,
        classes=args.way,
        size=args.image_size,
        views=draw_views(Augmentation(min_area=0.5), flip, random),
        shift=None,
    )


def agreement(
    learner: Learner,
    task: Task,
    args: argparse.Namespace,
    micro_batch: int,
    cast: Cast,
    exact: Cast,
) -> dict[str, float]:
    """One step and its answers under both casts, with the same subsets."""
    found: list[tuple[Tensor, Tensor]] = []
    for each in (cast, exact):
        learner.zero_grad(set_to_none=True)
        random = torch.Generator().manual_seed(0)
        lite_step(learner, task, random, h=args.h, micro_batch=micro_batch, cast=each)
        gradients = [p.grad.flatten() for p in learner.parameters() if p.grad is not None]
        adapted = learner.adapt(
            task.support, task.support_labels, task.classes, micro_batch=micro_batch, cast=each
        )
        found.append((torch.cat(gradients), adapted.logits(task.query).argmax(1)))
    (gradient, answers), (true, right) = found
    return {
        "gradient_error": round(float((gradient - true).norm() / true.norm()), 5),
        "same_answers": round(float((answers == right).double().mean()), 4),
    }


if __name__ == "__main__":
    main()
