"""Error of iMAML's meta-gradient against inner steps and conjugate gradient steps.

    python -m benchmarks.accuracy.implicit_error MODEL DATA [--tasks 3] [--plot FILE]

MODEL is an iMAML checkpoint. The reference differentiates through `--unrolled` inner steps in one
graph (float64). Beside the network as it is stands one without kinks (Softplus for ReLU, mean for
max pooling, same weights): at kinks the implicit function theorem that iMAML rests on says nothing.
The figures of Rajeswaran et al. 2019 (figure 2) are of a synthetic problem.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.common import Row, draw_lines, emit, numbers, open_data, say
from fewshot_lite.evaluation.accuracy import fixed_episodes, make_task
from fewshot_lite.learners import ImplicitMaml
from fewshot_lite.learners.task import Task
from fewshot_lite.maml.meta_gradient import meta_gradient, unrolled_gradient
from fewshot_lite.maml.params import Params
from fewshot_lite.personal.meta_model import MetaModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--way", type=int, default=5)
    parser.add_argument("--shot", type=int, default=1)
    parser.add_argument("--queries", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=3)
    parser.add_argument("--unrolled", type=int, default=100)
    parser.add_argument("--inner-lr", type=float, default=0.05)
    parser.add_argument("--inner-steps", type=numbers, default="5,10,25,50,100")
    parser.add_argument("--cg-steps", type=numbers, default="1,2,5,10,20")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    model = MetaModel.load(args.model)
    _, store, pool = open_data(args.data, model.image_size)
    episodes = fixed_episodes(
        pool, way=args.way, shot=args.shot, queries=args.queries, tasks=args.tasks, seed=args.seed
    )
    rows: list[Row] = []
    for network in ("smooth", "as it is"):
        learner = MetaModel.load(args.model).learner.double()
        assert isinstance(learner, ImplicitMaml)
        learner.inner_lr, learner.inner_solver = args.inner_lr, "gd"
        if network == "smooth":
            _smooth(learner.backbone.network)
        for number, episode in enumerate(episodes):
            task = make_task(store, episode)
            _set(learner, args.unrolled, 1)
            exact = unrolled_gradient(learner, _float(task)).gradients
            grid = [(steps, max(args.cg_steps)) for steps in args.inner_steps]
            grid += [(args.unrolled, cg) for cg in args.cg_steps]
            for steps, cg in dict.fromkeys(grid):
                _set(learner, steps, cg)
                found = meta_gradient(learner, _float(task))
                row = {
                    "network": network,
                    "task": number,
                    "inner_steps": steps,
                    "cg_steps": cg,
                    **_compare(found.gradients, exact),
                }
                row["negative_curvature"] = int(found.negative_curvature)
                rows.append(row)
                say(row)
    emit("implicit_error", vars(args), rows)
    if args.plot:
        lines = panels(rows, args.unrolled, max(args.cg_steps))
        draw_lines(args.plot, lines, ("steps", "relative error"))


def _set(learner: ImplicitMaml, steps: int, cg: int) -> None:
    learner.inner_steps, learner.cg_steps = steps, cg
    learner.set_pattern(None)


def _float(task: Task) -> Task:
    return Task(
        task.support.double() / 255,
        task.support_labels,
        task.query.double() / 255,
        task.query_labels,
        task.classes,
    )


def _smooth(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Softplus(beta=4))
            elif isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(2))


def _compare(found: Params, exact: Params) -> dict[str, float]:
    a = torch.cat([found[name].flatten() for name in exact])
    b = torch.cat([exact[name].flatten() for name in exact])
    return {
        "error": float((a - b).norm() / b.norm()),
        "cosine": float(nn.functional.cosine_similarity(a, b, dim=0)),
    }


def panels(rows: list[Row], unrolled: int, products: int) -> list[tuple[str, dict[str, Any]]]:
    """Mean error over the tasks against conjugate gradient steps, and against inner steps."""
    found = []
    for key, fixed, value in (
        ("cg_steps", "inner_steps", unrolled),
        ("inner_steps", "cg_steps", products),
    ):
        lines: dict[str, list[tuple[float, float]]] = {}
        for network in dict.fromkeys(row["network"] for row in rows):
            chosen = [r for r in rows if r["network"] == network and r[fixed] == value]
            for at in sorted({row[key] for row in chosen}):
                errors = [row["error"] for row in chosen if row[key] == at]
                lines.setdefault(network, []).append((at, sum(errors) / len(errors)))
        found.append((f"{key.replace('_', ' ')} ({fixed.replace('_', ' ')}: {value})", lines))
    return found


if __name__ == "__main__":
    main()
