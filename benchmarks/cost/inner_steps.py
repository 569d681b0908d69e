"""Memory and time of a meta-gradient against inner steps.

    python -m benchmarks.cost.inner_steps [--steps 1,5,10,25,50,100] [--plot FILE]

20-way 5-shot at 28 px on Conv-4, the shape of Omniglot (random images: neither depends on what is
seen). Each point is two fresh processes: one for the peak of resident memory over what the process
held before, one for seconds. "maml, one graph" differentiates through all steps at once, as the
papers' code does; "maml" is ours, which keeps a set of parameters a step; fomaml and imaml keep
nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from benchmarks.common import (
    Row,
    arguments,
    draw_lines,
    emit,
    fresh,
    mebibytes,
    peak,
    random_task,
    say,
)
from fewshot_lite.learners.task import Task
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.imaml import ImplicitMaml
from fewshot_lite.maml.maml import FirstOrderMaml, Maml
from fewshot_lite.maml.meta_gradient import meta_gradient, unrolled_gradient
from fewshot_lite.networks.backbone import Backbone

ARMS: dict[str, type[GradientLearner]] = {
    "fomaml": FirstOrderMaml,
    "imaml": ImplicitMaml,
    "maml": Maml,
    "maml, one graph": Maml,
}


def main() -> None:
    args = arguments(
        __doc__,
        steps=[1, 5, 10, 25, 50, 100],
        graph_steps=([1, 5, 10, 25], "in one graph"),
        way=20,
        shot=5,
        queries=(5, "of a class"),
        image_size=28,
        arms=";".join(ARMS),
        plot=Path,
    )
    rows: list[Row] = []
    for arm in args.arms.split(";"):
        for steps in args.graph_steps if arm.endswith("graph") else args.steps:
            rows.append({"arm": arm, "steps": steps, **_two_points(args, arm, steps)})
            say(rows[-1])
    emit("inner_steps", vars(args), rows)
    if args.plot:
        panels = []
        for key, title in (("peak_mib", "peak memory, MiB"), ("seconds", "seconds")):
            lines: dict[str, list[tuple[float, float]]] = {}
            for row in rows:
                if "failed" not in row:
                    lines.setdefault(row["arm"], []).append((row["steps"], row[key]))
            panels.append((title, lines))
        draw_lines(args.plot, panels, ("inner steps", ""))


def _two_points(args: argparse.Namespace, arm: str, steps: int) -> Row:
    """Memory and seconds, of a process each.

    For memory the allocator gives back at once what is freed, which takes time of its own; else the
    peak would be that of its reserves.
    """
    strict = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    with patch.dict(os.environ, strict):
        memory = fresh(measure, args, arm, steps)
    if "failed" in memory:
        return memory
    return memory | {"seconds": fresh(measure, args, arm, steps)["seconds"]}


def measure(args: argparse.Namespace, arm: str, steps: int) -> Row:
    """One point, in this process."""
    learner = ARMS[arm](
        Backbone("conv4", args.image_size), statistics="support", inner_steps=steps, inner_lr=0.01
    )

    def task(way: int, shot: int, queries: int) -> Task:
        found = random_task(way * shot, way * queries, way, args.image_size)
        return replace(found, support=found.support / 255, query=found.query / 255)

    gradient = unrolled_gradient if arm.endswith("graph") else meta_gradient
    real = task(args.way, args.shot, args.queries)
    gradient(learner, task(2, 1, 1))  # what torch loads at the first use is not counted
    before = peak()
    start = time.perf_counter()
    gradient(learner, real)
    seconds = round(time.perf_counter() - start, 3)
    return {"peak_mib": mebibytes(peak() - before), "seconds": seconds}


if __name__ == "__main__":
    main()
