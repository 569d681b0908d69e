"""Time of one LITE step over its floor: the bare passes that it cannot do without.

    python benchmarks/step_time.py --support 200 [--queries 100 --h 40]

Floor, timed in the same run and in turn with the step: backbone forward on N images, forward and
backward (into the norm parameters, as FiLM needs) on H and on Q; set encoder forward on N, forward
and backward on H. Medians over the repeats.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable

import torch

from common import emit
from fewshot_lite.core.devices import autocast, pick_device, pick_micro_batch
from fewshot_lite.learners.base import Cast, Learner, map_batches
from fewshot_lite.learners.task import Task
from fewshot_lite.lite.step import lite_step
from fewshot_lite.networks.backbone import has_depthwise_convolutions
from tasks import random_learner, random_task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learner", default="simple-cnaps")
    parser.add_argument("--backbone", default="efficientnet_b0")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--way", type=int, default=10)
    parser.add_argument("--support", type=int, default=200)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--h", type=int, default=40)
    parser.add_argument("--micro-batch", type=int, help="default: what meta-train would take")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()

    device = pick_device(args.device)
    args.micro_batch = args.micro_batch or pick_micro_batch(device, args.image_size)
    learner = random_learner(args.learner, args.backbone, args.image_size).to(device)
    task = random_task(args.support, args.queries, args.way, args.image_size).to(device)
    depthwise = has_depthwise_convolutions(learner.backbone)
    cast = functools.partial(autocast, device, "auto", depthwise=depthwise)

    def step() -> None:
        random = torch.Generator().manual_seed(0)
        lite_step(learner, task, random, h=args.h, micro_batch=args.micro_batch, cast=cast)

    def floor() -> None:
        bare_passes(learner, task, args.h, args.micro_batch, cast)

    times: dict[str, list[float]] = {"step": [], "floor": []}
    for repeat in range(args.repeats + 1):
        for name, function in (("step", step), ("floor", floor)):
            seconds = clock(function, device)
            if repeat:  # the first round warms up
                times[name].append(seconds)
    medians = {name: sorted(values)[len(values) // 2] for name, values in times.items()}
    ratios = sorted(s / f for s, f in zip(times["step"], times["floor"], strict=True))
    emit(
        "step_time",
        vars(args),
        {
            "seconds": medians,
            "step_over_floor": medians["step"] / medians["floor"],
            "ratios": [round(ratio, 3) for ratio in ratios],
        },
    )


def bare_passes(learner: Learner, task: Task, h: int, size: int, cast: Cast) -> None:
    """The network passes of a step and nothing else."""
    backbone = learner.backbone
    norms = [p for layer in backbone.norm_layers().values() for p in (layer.weight, layer.bias)]
    with torch.no_grad():
        map_batches(backbone, task.support, size, cast)
        if learner.has_set_encoder:
            map_batches(lambda x: learner.embed(learner.lower(x)), task.support, size, cast)
    for parameter in norms:
        parameter.requires_grad_(True)
    for images in (task.support[:h], task.query):
        for batch in images.split(size):
            with cast():
                features = backbone(batch)
            features.sum().backward()
    for parameter in norms:
        parameter.requires_grad_(False)
        parameter.grad = None
    if learner.has_set_encoder:
        for batch in task.support[:h].split(size):
            with cast():
                embeddings = learner.embed(learner.lower(batch))
            embeddings.sum().backward()


def clock(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
