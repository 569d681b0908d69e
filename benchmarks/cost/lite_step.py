"""Memory and time of one LITE step against N, its floor, in each precision.

    python -m benchmarks.cost.lite_step --sizes 50,200,1000 --modes lite,all,full
    python -m benchmarks.cost.lite_step --device cuda --way 50 --queries 500 --sizes 100,1000,10000

Each point is a process of its own, on random images: two steps; then, in turns, the step and its
floor, the bare passes that it cannot do without (backbone forward on N images, forward and backward
into the norm parameters on H and on Q; set encoder forward on N, forward and backward on H).
`ratios` are of processor time on a CPU, which says less of what else the machine does, and of time
by the clock on a GPU. `peak_mib` is what the process held at most (on a GPU: what torch allocated)
until the floor, `images_mib` what of it the task's images take. With `--compiled no,yes` the
backbone is compiled by torch.compile, too, as `meta-train --compile` does; `first_seconds` is the
first step, which compiles. "lite" back-propagates H images, "all" every image, "full" the
whole task in one graph, as is usual. "published" does the work of the authors' code (see
`benchmarks/published_lite.py`), with "lite" in turns with it. Give `--film-layers depthwise` then,
the layers that it adapts.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import common
from benchmarks.common import Row
from benchmarks.published_lite import PublishedLite
from fewshot_lite.core.devices import pick_device, pick_micro_batch
from fewshot_lite.core.precision import compile_network, compiling
from fewshot_lite.images.pixels import as_float
from fewshot_lite.learners import SimpleCnaps
from fewshot_lite.learners.base import lower_maps_of
from fewshot_lite.learners.task import Task
from fewshot_lite.lite.baselines import full_step
from fewshot_lite.lite.step import lite_step
from fewshot_lite.networks.backbone import cast_for
from fewshot_lite.networks.micro_batches import Passes


def main() -> None:
    args = common.arguments(
        __doc__,
        backbones="efficientnet_b0",
        image_size=224,
        way=10,
        queries=100,
        h=40,
        sizes=[50, 100, 200, 400, 1000],
        modes="lite",
        film_layers="all",
        film_stages=(int, "stages FiLM acts on; what lies below is computed once an image"),
        precisions="auto",
        compiled="no",
        micro_batch=(int, "default: what meta-train would take"),
        repeats=(3, "0 for memory alone"),
        device="auto",
        keep=(Path, "write the JSON to this file, anew after each row"),
    )
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("benchmarks.cost.lite_step: --device cuda: there is no CUDA device here.")
    common.emit_rows("lite_step", args, points(args))


def points(args: argparse.Namespace) -> Iterator[Row]:
    """Every combination that was asked for, up to the size that fails."""
    lists = (args.backbones, args.modes, args.precisions, args.compiled)
    for values in product(*(text.split(",") for text in lists)):
        about: Row = dict(zip(("backbone", "mode", "precision", "compiled"), values, strict=True))
        for about["support"] in args.sizes:
            found = common.alone(measure, argparse.Namespace(**(vars(args) | about)))
            yield about | found
            if "failed" in found:
                break  # more images would fail, too


def measure(args: argparse.Namespace) -> Row:
    """One point, in this process."""
    with compiling(args.compiled == "yes"):
        return _measured(args, pick_device(args.device))


def _measured(args: argparse.Namespace, device: torch.device) -> Row:
    micro_batch = args.micro_batch or pick_micro_batch(device, args.image_size)
    learner = learner_of(args).to(device)
    learner.to(memory_format=torch.channels_last)
    cast = cast_for(learner.backbone, device, args.precision)
    if args.compiled == "yes":
        compile_network(learner.backbone.network, device)
    before = common.peak_mib(device)
    cpu_task = random_task(args.support, args.queries, args.way, args.image_size)
    images = cpu_task.support.numel() + cpu_task.query.numel()
    task = cpu_task.to(device)

    def step() -> None:
        h = None if args.mode == "all" else args.h
        random = torch.Generator().manual_seed(0)
        lite_step(learner, task, random, h=h, micro_batch=micro_batch, cast=cast)

    floor = functools.partial(bare_passes, learner, task, args.h, Passes(micro_batch, cast))
    ways: dict[str, Callable[[], object]] = {"step": step, "floor": floor}
    if args.mode == "full":
        ways["step"] = functools.partial(full_step, learner, task)
    elif args.mode == "published":
        ways |= {"step": published_step(learner_of(args).to(device), task, args.h), "lite": step}
        images *= 4  # they are float32
    first = common.in_turns([{"step": ways["step"]}], {}, device)["seconds"]["step"]
    ways["step"]()
    row: Row = {
        "micro_batch": micro_batch,
        "peak_mib": common.peak_mib(device),
        "images_mib": round(images / 2**20),
        "before_mib": before,
        "first_seconds": first,
    }
    if args.repeats:
        for name in ways.keys() - {"step"}:
            ways[name]()  # warms up
        beside = {"step": "floor"} | ({"lite": "step"} if "lite" in ways else {})
        row |= common.in_turns([ways] * args.repeats, beside, device)
    return row


def learner_of(args: argparse.Namespace) -> SimpleCnaps:
    options = {"film_layers": args.film_layers, "film_stages": args.film_stages}
    return common.random_learner(args.backbone, args.image_size, **options)


def random_task(number: int, queries: int, way: int, size: int) -> Task:
    """N support and Q query images of random bytes, classes in turn."""
    images = common.random_images(number + queries, size)
    labels = torch.arange(number) % way, torch.arange(queries) % way
    return Task(images[:number], labels[0], images[number:], labels[1], way)


def published_step(learner: SimpleCnaps, task: Task, h: int) -> Callable[[], object]:
    """The authors' step on a task, whose images it holds as float32."""
    model = PublishedLite(learner).to(learner.backbone.mean.device)
    floats = replace(task, support=as_float(task.support), query=as_float(task.query))
    return lambda: model.step(floats, h, torch.Generator().manual_seed(0))


def bare_passes(learner: SimpleCnaps, task: Task, h: int, passes: Passes) -> None:
    """The network passes of a step and nothing else."""
    layers = learner.backbone.norm_layers().values()
    norms = [p for layer in layers for p in (layer.weight, layer.bias)]
    support, query = (lower_maps_of(learner, x, passes) for x in (task.support, task.query))
    features = functools.partial(learner.features, parameters={})
    with torch.no_grad():
        passes.map(features, support)
        passes.map(learner.embed, support)
    for parameter in norms:
        parameter.requires_grad_(True)
    for maps in (support[:h], query):
        forward_and_back(features, maps, passes)
    for parameter in norms:
        parameter.requires_grad_(False)
        parameter.grad = None
    forward_and_back(learner.embed, support[:h], passes)


def forward_and_back(network: Callable[..., Tensor], maps: Tensor, passes: Passes) -> None:
    for (batch,) in passes.split(maps):
        with passes.cast():
            found = network(batch)
        found.sum().backward()


if __name__ == "__main__":
    main()
