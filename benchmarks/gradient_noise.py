"""Noise of LITE's gradient against H: uniform, stratified and informed sampling, and small tasks.

    python benchmarks/gradient_noise.py MODEL DATA --support 100 --tasks 20

For each task the exact gradient of the FiLM parameters is split into what each support image adds
to it, g_n (DATA's images, one backward pass an image). A sampler's estimate is Σ g_n/π_n over the
images drawn, so its error is had for many draws at no cost. Small tasks are trained on as they are:
their gradient is that of another task, so their bias is shown beside their error. Figures are root
mean squares over draws, relative to the part of the gradient that comes through the support images,
averaged over tasks.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from common import emit, open_data
from fewshot_lite import lite, sampling
from fewshot_lite.baselines import small_task
from fewshot_lite.data.episodes import sample_fixed_episode
from fewshot_lite.evaluation import make_task
from fewshot_lite.learners import Learner
from fewshot_lite.meta_model import MetaModel
from fewshot_lite.sampling import Chosen
from fewshot_lite.task import Task
from fewshot_lite.training import generator

DRAWS = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--way", type=int, default=10)
    parser.add_argument("--support", type=int, default=100)
    parser.add_argument("--queries", type=int, default=5, help="of a class")
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--h", default="5,10,20,40,80")
    parser.add_argument("--small-draws", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    model = MetaModel.load(args.model)
    model.learner.film.requires_grad_(True)
    _, store, pool = open_data(args.data, model.image_size)
    shot = args.support // args.way
    sizes = [int(h) for h in args.h.split(",")]
    errors: dict[tuple[str, int], list[float]] = {}
    for number in range(args.tasks):
        random = generator(args.seed, 5, number)
        episode = sample_fixed_episode(pool, args.way, shot, args.queries, random)
        task = make_task(store, episode)
        parts, v = contributions(model.learner, task)  # (N, P), (N, d)
        exact = parts.sum(0)
        scale = exact.norm()
        for h in sizes:
            for name, draw in samplers(task, v, h, random).items():
                error = root_mean_square(parts, exact, draw) / scale
                errors.setdefault((name, h), []).append(float(error))
            found = torch.stack(
                [
                    contributions(model.learner, small_task(task, h, random), total=True)[0][0]
                    for _ in range(args.small_draws)
                ]
            )
            error = (found - exact).square().sum(1).mean().sqrt() / scale
            bias = (found.mean(0) - exact).norm() / scale
            errors.setdefault(("small task", h), []).append(float(error))
            errors.setdefault(("small task, bias", h), []).append(float(bias))
    rows = []
    for (name, h), values in errors.items():
        mean, uniform = sum(values) / len(values), errors["uniform", h]
        over = mean * len(uniform) / sum(uniform)
        rows.append(
            {
                "sampler": name,
                "h": h,
                "relative_rmse": round(mean, 4),
                "over_uniform": round(over, 3),
            }
        )
    emit("gradient_noise", vars(args), rows)


def contributions(learner: Learner, task: Task, *, total: bool = False) -> tuple[Tensor, Tensor]:
    """What each support image adds to ∂L/∂θ: (N, P), or their sum (1, P); and v, (N, d)."""
    learner.zero_grad()
    forward = lite.forward_support(learner, task, 64, nullcontext)
    lite.backward_queries(learner, task, forward, 1.0, 64, nullcontext)
    v = forward.features.grad
    assert v is not None
    rows = []
    everything = torch.arange(len(v))
    for indices in [everything] if total else everything.split(1):
        for leaf in forward.theta.values():
            leaf.grad = None
        ones = Chosen(indices, torch.ones(len(indices), dtype=torch.float64))
        lite.backward_support(learner, task, forward, v, ones, 64, nullcontext)
        grads = [leaf.grad for leaf in forward.theta.values()]
        rows.append(torch.cat([g.flatten() for g in grads if g is not None]))
    return torch.stack(rows), v


def samplers(
    task: Task, v: Tensor, h: int, random: torch.Generator
) -> dict[str, Callable[[], Chosen]]:
    """Ways to draw H of N images."""
    number = len(v)
    return {
        "uniform": lambda: sampling.uniform(number, h, random),
        "stratified": lambda: stratified(task.support_labels, h, random),
        "informed": lambda: sampling.informed(v.norm(dim=1), h, random),
    }


def stratified(labels: Tensor, h: int, random: torch.Generator) -> Chosen:
    """Equal probabilities, spread over the classes: systematic sampling of images by class."""
    order = torch.randperm(len(labels), generator=random)
    order = order[labels[order].argsort(stable=True)]
    share = torch.full((len(labels),), min(1.0, h / len(labels)), dtype=torch.float64)
    start = float(torch.rand((), dtype=torch.float64, generator=random))
    chosen = sampling.systematic(share, start)
    return Chosen(order[chosen.indices], chosen.weights)


def root_mean_square(parts: Tensor, exact: Tensor, draw: Callable[[], Chosen]) -> Tensor:
    """Root mean square distance of a sampler's estimates from the exact gradient."""
    weights = torch.zeros(DRAWS, len(parts))
    for row in weights:
        chosen = draw()
        row[chosen.indices] = chosen.weights.float()
    return (weights @ parts - exact).square().sum(1).mean().sqrt()


if __name__ == "__main__":
    main()
