"""Memory and time of a meta-gradient against inner steps.

    python benchmarks/inner_steps.py [--steps 1,5,10,25,50,100] [--plot FILE]

20-way 5-shot at 28 px on Conv-4, the shape of Omniglot (random images: neither depends on what is
seen). Each point is two fresh processes: one for the peak of resident memory over what the process
held before, one for seconds. "maml, one graph" differentiates through all steps at once, as the
papers' code does; "maml" is ours, which keeps a set of parameters a step; fomaml and imaml keep
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from common import emit
from fewshot_lite.learners import FirstOrderMaml, GradientLearner, ImplicitMaml, Maml
from fewshot_lite.learners.task import Task
from fewshot_lite.maml.meta_gradient import meta_gradient, unrolled_gradient
from fewshot_lite.networks.backbone import Backbone

ARMS: dict[str, type[GradientLearner]] = {
    "fomaml": FirstOrderMaml,
    "imaml": ImplicitMaml,
    "maml": Maml,
    "maml, one graph": Maml,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", default="1,5,10,25,50,100")
    parser.add_argument("--graph-steps", default="1,5,10,25", help="of maml in one graph")
    parser.add_argument("--way", type=int, default=20)
    parser.add_argument("--shot", type=int, default=5)
    parser.add_argument("--queries", type=int, default=5, help="of a class")
    parser.add_argument("--image-size", type=int, default=28)
    parser.add_argument("--arms", default=";".join(ARMS))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        print(json.dumps(measure(args, args.point[0], int(args.point[1]))))
        return
    rows: list[dict[str, Any]] = []
    for arm in args.arms.split(";"):
        wanted = args.graph_steps if arm.endswith("graph") else args.steps
        for steps in wanted.split(","):
            command = [
                sys.executable,
                "-W",
                "ignore",
                __file__,
                *sys.argv[1:],
                "--point",
                arm,
                steps,
            ]
            rows.append(_point(command, arm, int(steps)))
            print(rows[-1], file=sys.stderr)
    emit("inner_steps", vars(args), rows)
    if args.plot:
        draw_figure([row for row in rows if "failed" not in row], args.plot)


def _point(command: list[str], arm: str, steps: int) -> dict[str, Any]:
    """Memory and seconds, of a process each.

    For memory the allocator gives back at once what is freed, which takes time of its own; else the
    peak would be that of its reserves.
    """
    found: dict[str, Any] = {"arm": arm, "steps": steps}
    strict = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    for key, environment in (("peak_mib", strict), ("seconds", dict(os.environ))):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            return found | {"failed": done.stderr[-300:] or f"signal {-done.returncode}"}
        found[key] = json.loads(done.stdout)[key]
    return found


def measure(args: argparse.Namespace, arm: str, steps: int) -> dict[str, Any]:
    """One point, in this process."""
    learner = ARMS[arm](
        Backbone("conv4", args.image_size), statistics="support", inner_steps=steps, inner_lr=0.01
    )

    def task(way: int, shot: int, queries: int) -> Task:
        size = args.image_size
        return Task(
            torch.rand(way * shot, 3, size, size),
            torch.arange(way).repeat(shot),
            torch.rand(way * queries, 3, size, size),
            torch.arange(way).repeat(queries),
            way,
        )

    gradient = unrolled_gradient if arm.endswith("graph") else meta_gradient
    real = task(args.way, args.shot, args.queries)
    gradient(learner, task(2, 1, 1))  # what torch loads at the first use is not counted
    before = _peak()
    start = time.perf_counter()
    gradient(learner, real)
    return {
        "peak_mib": round((_peak() - before) / 2**20, 1),
        "seconds": round(time.perf_counter() - start, 3),
    }


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def draw_figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Memory and seconds against inner steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    labels = {"peak_mib": "peak memory of a meta-gradient, MiB", "seconds": "seconds"}
    for axes, (key, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        for arm in dict.fromkeys(row["arm"] for row in rows):
            points = [(row["steps"], row[key]) for row in rows if row["arm"] == arm]
            axes.plot(*zip(*points, strict=True), marker="o", label=arm)
        axes.set(xlabel="inner steps", ylabel=label, xscale="log", yscale="log")
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
