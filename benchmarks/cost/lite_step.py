"""Memory and time of one LITE step against N, its floor, in each precision.

    python -m benchmarks.cost.lite_step --sizes 50,200,1000 --modes lite,all,full
    python -m benchmarks.cost.lite_step --device cuda --way 50 --queries 500 --sizes 100,1000,10000

Each point is a process of its own, on random images: two steps; then, in turns, the step and its
floor, the bare passes that it cannot do without (backbone forward on N images, forward and backward
into the norm parameters on H and on Q; set encoder forward on N, forward and backward on H).
`share_of_floor` is floor / step, of medians, and on a CPU `step_over_floor` the median over rounds
of step / floor in processor time, which says less of what else the machine does. `peak_mib` is what
the process held at most (on a GPU: what torch allocated) until the floor, `images_mib` what of it
the task's images take. With `--compiled no,yes` the backbone is compiled by torch.compile, too, as
`meta-train --compile` does; `first_seconds` is the first step then, which compiles. "lite"
back-propagates H images, "all" every image, "full" the whole task in one graph, as is usual.
"published" does the work of the authors' code (see `benchmarks/published_lite.py`), with "lite" in
turns with it: `lite_over_published` is of processor time on a CPU, else of seconds. Give
`--film-layers depthwise` then, the layers that it adapts.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median

import torch

from benchmarks.common import (
    Row,
    arguments,
    emit,
    fresh,
    in_turns,
    mebibytes,
    medians,
    peak,
    random_learner,
    random_task,
    ratios,
    say,
)
from benchmarks.published_lite import PublishedLite
from fewshot_lite.core.devices import pick_device, pick_micro_batch
from fewshot_lite.core.precision import compile_network, compiling
from fewshot_lite.images.pixels import as_float
from fewshot_lite.learners import SimpleCnaps
from fewshot_lite.learners.base import Learner, lower_maps_of
from fewshot_lite.learners.task import Task
from fewshot_lite.lite.baselines import full_step
from fewshot_lite.lite.step import lite_step
from fewshot_lite.networks.backbone import cast_for
from fewshot_lite.networks.micro_batches import Passes


def main() -> None:
    args = arguments(
        __doc__,
        learner="simple-cnaps",
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
    rows: list[Row] = []
    names = ("backbones", "modes", "precisions", "compiled")
    lists = (getattr(args, name).split(",") for name in names)
    for backbone, mode, precision, compiled in product(*lists):
        for number in args.sizes:
            about = {"backbone": backbone, "mode": mode, "precision": precision}
            about |= {"compiled": compiled} if args.compiled != "no" else {}
            found = fresh(measure, args, backbone, mode, precision, compiled == "yes", number)
            rows.append(about | {"support": number} | found)
            say(rows[-1])
            if args.keep:
                emit("lite_step", vars(args), rows)
            if "failed" in found:
                break  # more images would fail, too
    emit("lite_step", vars(args), rows)


def measure(
    args: argparse.Namespace, backbone: str, mode: str, precision: str, compiled: bool, number: int
) -> Row:
    """One point, in this process."""
    with compiling(compiled):
        return _measured(args, backbone, mode, precision, compiled, number)


def _measured(
    args: argparse.Namespace, backbone: str, mode: str, precision: str, compiled: bool, number: int
) -> Row:
    device = pick_device(args.device)
    micro_batch = args.micro_batch or pick_micro_batch(device, args.image_size)
    options = {} if args.film_layers == "all" else {"film_layers": args.film_layers}
    options |= {} if args.film_stages is None else {"film_stages": args.film_stages}
    learner = random_learner(args.learner, backbone, args.image_size, options).to(device)
    learner.to(memory_format=torch.channels_last)
    cast = cast_for(learner.backbone, device, precision)  # type: ignore[arg-type]
    if compiled:
        compile_network(learner.backbone.network, device)
    before = peak(device)
    cpu_task = random_task(number, args.queries, args.way, args.image_size)
    images = cpu_task.support.numel() + cpu_task.query.numel()
    task = cpu_task.to(device)

    def step() -> None:
        h = None if mode == "all" else args.h
        random = torch.Generator().manual_seed(0)
        lite_step(learner, task, random, h=h, micro_batch=micro_batch, cast=cast)

    floor = functools.partial(bare_passes, learner, task, args.h, Passes(micro_batch, cast))
    ways: dict[str, Callable[[], object]] = {"step": step, "floor": floor}
    if mode == "full":
        ways["step"] = functools.partial(full_step, learner, task)
    elif mode == "published":
        ways["lite"] = ways["step"]
        other = random_learner(args.learner, backbone, args.image_size, options).to(device)
        ways["step"] = published_step(other, task, args.h)
        images *= 4  # they are float32
    started = time.perf_counter()
    ways["step"]()
    first = time.perf_counter() - started
    ways["step"]()
    row: Row = {
        "micro_batch": micro_batch,
        "peak_mib": mebibytes(peak(device)),
        "images_mib": mebibytes(images),
        "before_mib": mebibytes(before),
        **({"first_seconds": round(first, 1)} if compiled else {}),
    }
    if args.repeats:
        row |= timed(ways, args.repeats, device)
    return row


def timed(ways: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> Row:
    """Seconds of the ways in turns, "step" being warm, and what they are to each other."""
    seconds, processor = in_turns(ways, repeats, device, warm="step")
    row: Row = {"seconds": medians(seconds)}
    row["share_of_floor"] = round(row["seconds"]["floor"] / row["seconds"]["step"], 3)
    if device.type == "cpu":
        row["rounds"] = ratios(processor, "step", "floor")
        row["step_over_floor"] = median(row["rounds"])
        row["processor_seconds"] = medians(processor, 3)
    if "lite" in ways:
        work = processor if device.type == "cpu" else seconds
        row["lite_over_published"] = median(ratios(work, "lite", "step"))
    return row


def published_step(learner: Learner, task: Task, h: int) -> Callable[[], object]:
    """The authors' step on a task, whose images it holds as float32."""
    if not isinstance(learner, SimpleCnaps):
        sys.exit("benchmarks.cost.lite_step: --modes published: for --learner simple-cnaps alone.")
    model = PublishedLite(learner).to(learner.backbone.mean.device)
    floats = replace(task, support=as_float(task.support), query=as_float(task.query))
    return lambda: model.step(floats, h, torch.Generator().manual_seed(0))


def bare_passes(learner: Learner, task: Task, h: int, passes: Passes) -> None:
    """The network passes of a step and nothing else."""
    layers = learner.backbone.norm_layers().values()
    norms = [p for layer in layers for p in (layer.weight, layer.bias)]
    support, query = (lower_maps_of(learner, x, passes) for x in (task.support, task.query))
    features = functools.partial(learner.features, parameters={})
    with torch.no_grad():
        passes.map(features, support)
        if learner.has_set_encoder:
            passes.map(learner.embed, support)
    for parameter in norms:
        parameter.requires_grad_(True)
    for maps in (support[:h], query):
        for (batch,) in passes.split(maps):
            with passes.cast():
                found = features(batch)
            found.sum().backward()
    for parameter in norms:
        parameter.requires_grad_(False)
        parameter.grad = None
    if learner.has_set_encoder:
        for (batch,) in passes.split(support[:h]):
            with passes.cast():
                embeddings = learner.embed(batch)
            embeddings.sum().backward()


if __name__ == "__main__":
    main()
