"""Noise of LITE's gradient against H: uniform, stratified and informed sampling, and small tasks.

    python -m benchmarks.accuracy.gradient_noise MODEL DATA [DATA ...] --support 100,200 --tasks 20

Tasks come from the data sets in turn. For each the exact gradient of the FiLM parameters is split
into what each support image adds to it, g_n (one backward pass an image). A sampler's estimate is
Σ g_n/π_n over the images drawn, so its error is had for many draws at no cost; a balanced sample
needs passes of its own, and gets fewer draws. Its corrections can be added with any coefficient:
"best" is the one that would have been best for all tasks of a size at an H. Small tasks are trained
on as they are: their gradient is that of another task, so their bias is shown beside their error.
Figures are root mean squares over draws, relative to the part of the gradient that comes through
the support images, averaged over tasks.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import Row, arguments, draw_lines, emit, open_data, say
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.data.episodes import sample_fixed_episode
from fewshot_lite.evaluation.accuracy import make_task
from fewshot_lite.learners import Learner
from fewshot_lite.learners.task import Task
from fewshot_lite.lite import sampling
from fewshot_lite.lite import step as lite
from fewshot_lite.lite.baselines import small_task
from fewshot_lite.lite.sampling import Chosen
from fewshot_lite.personal.meta_model import MetaModel

DRAWS = 300


def main() -> None:
    args = arguments(
        __doc__,
        "model",
        "data+",
        way=10,
        support=[100, 200],
        queries=(5, "of a class"),
        tasks=(20, "for each size of the support set"),
        h=[5, 10, 20, 40, 80],
        small_draws=8,
        balanced_draws=8,
        seed=0,
        plot=(Path, "draw a figure there"),
    )

    model = MetaModel.load(args.model)
    model.learner.film.requires_grad_(True)
    sets = [open_data(data, model.image_size)[1:] for data in args.data]
    rows: list[Row] = []
    for number in args.support:
        errors: dict[tuple[str, int], list[float]] = {}
        moments: dict[int, list[tuple[float, ...]]] = {}
        for position in range(args.tasks):
            random = generator(args.seed, Stream.BACK_PROPAGATED, position)
            store, pool = sets[position % len(sets)]
            episode = sample_fixed_episode(pool, args.way, number // args.way, args.queries, random)
            task = lite.task_of_maps(model.learner, make_task(store, episode), 64, nullcontext)
            measure(model.learner, task, args, random, errors, moments)
            say(f"N={number}: {position + 1} of {args.tasks} tasks")
        coefficients = {h: best_coefficient(found) for h, found in moments.items()}
        for h, (_, found) in coefficients.items():
            errors["balanced, best", h] = found
        rows += table(number, errors)
        rows += [
            {"support": number, "h": h, "best_coefficient": round(best, 3)}
            for h, (best, _) in coefficients.items()
        ]
    emit("gradient_noise", vars(args), rows)
    if args.plot:
        draw_lines(args.plot, panels(rows), ("H", "RMSE / norm of the exact gradient"))


def measure(
    learner: Learner,
    task: Task,
    args: argparse.Namespace,
    random: torch.Generator,
    errors: dict[tuple[str, int], list[float]],
    moments: dict[int, list[tuple[float, ...]]],
) -> None:
    """Add one task's errors to the lists by sampler and H, and what `best_coefficient` takes."""
    parts, v = contributions(learner, task)  # (N, P), (N, d)
    exact = parts.sum(0)
    scale = exact.norm()
    for h in args.h:
        for name, draw in samplers(task, v, h, random).items():
            error = root_mean_square(parts, exact, draw) / scale
            errors.setdefault((name, h), []).append(float(error))
        draws = [sampling.balanced(v, h, random) for _ in range(args.balanced_draws)]
        balanced = drawn(learner, task, draws)
        plain = torch.stack([d.weights.to(parts) @ parts[d.indices] for d in draws])
        error = (balanced - exact).square().sum(1).mean().sqrt() / scale
        errors.setdefault(("balanced", h), []).append(float(error))
        moments.setdefault(h, []).append(correction_moments(plain - exact, balanced - plain, scale))
        found = torch.stack(
            [
                contributions(learner, small_task(task, h, random), total=True)[0][0]
                for _ in range(args.small_draws)
            ]
        )
        square = (found - exact).square().sum(1).mean()
        errors.setdefault(("small task", h), []).append(float(square.sqrt() / scale))
        bias = squared_bias(found, exact, square).clamp(min=0).sqrt() / scale
        errors.setdefault(("small task, bias", h), []).append(float(bias))


def correction_moments(error: Tensor, correction: Tensor, scale: Tensor) -> tuple[float, ...]:
    """Means over draws of ‖e‖², ⟨e, c⟩ and ‖c‖², of errors without corrections and of these."""
    found = (error.square(), error * correction, correction.square())
    return tuple(float(x.sum(1).mean() / scale**2) for x in found)


def best_coefficient(moments: list[tuple[float, ...]]) -> tuple[float, list[float]]:
    """The coefficient of least mean error over tasks, and each task's error with it."""
    cross, square = (sum(row[k] for row in moments) for k in (1, 2))
    best = -cross / square if square else 0.0
    errors = [max(e + 2 * best * c + best**2 * q, 0.0) ** 0.5 for e, c, q in moments]
    return best, errors


def squared_bias(found: Tensor, exact: Tensor, square: Tensor) -> Tensor:
    """Squared bias of estimates (draws, P) of this mean square error, less what few draws add."""
    draws = len(found)
    apparent = (found.mean(0) - exact).square().sum()
    return (draws * apparent - square) / (draws - 1) if draws > 1 else apparent


def table(number: int, errors: dict[tuple[str, int], list[float]]) -> list[Row]:
    """Means over the tasks, and their ratio to uniform sampling's."""
    rows: list[Row] = []
    for (name, h), values in errors.items():
        mean, uniform = sum(values) / len(values), errors["uniform", h]
        rows.append(
            {
                "support": number,
                "sampler": name,
                "h": h,
                "relative_rmse": round(mean, 4),
                "over_uniform": round(mean * len(uniform) / sum(uniform), 3),
            }
        )
    return rows


def panels(rows: list[Row]) -> list[tuple[str, dict[str, Any]]]:
    """Relative error against H, a panel for each N."""
    found: dict[int, dict[str, Any]] = {}
    for row in rows:
        if "sampler" not in row:
            continue
        lines = found.setdefault(row["support"], {})
        lines.setdefault(row["sampler"], []).append((row["h"], row["relative_rmse"]))
    return [(f"N = {number}", lines) for number, lines in found.items()]


def contributions(learner: Learner, task: Task, *, total: bool = False) -> tuple[Tensor, Tensor]:
    """The part of each support image in ∂L/∂θ: (N, P), or their sum (1, P); and v, (N, d)."""
    forward, v = forward_pass(learner, task)
    everything = torch.arange(len(v))
    parts = [
        Chosen(indices, torch.ones(len(indices), dtype=torch.float64))
        for indices in ([everything] if total else everything.split(1))
    ]
    return back_propagated(learner, task, forward, v, parts), v


def drawn(learner: Learner, task: Task, draws: list[Chosen]) -> Tensor:
    """Estimates of ∂L/∂θ through the support images, one for each draw: (draws, P)."""
    forward, v = forward_pass(learner, task)
    return back_propagated(learner, task, forward, v, draws)


def forward_pass(learner: Learner, task: Task) -> tuple[lite.SupportPass, Tensor]:
    """Steps 1 and 2 of LITE, and v, (N, d)."""
    learner.zero_grad()
    forward = lite.forward_support(learner, task, 64, nullcontext)
    lite.backward_queries(learner, task, forward, 1.0, 64, nullcontext)
    v = forward.features.grad
    assert v is not None
    return forward, v


def back_propagated(
    learner: Learner, task: Task, forward: lite.SupportPass, v: Tensor, draws: list[Chosen]
) -> Tensor:
    """Step 3 for each draw: (draws, P)."""
    rows = []
    for chosen in draws:
        for leaf in forward.theta.values():
            leaf.grad = None
        lite.backward_support(learner, task, forward, v, chosen, 64, nullcontext)
        grads = [leaf.grad for leaf in forward.theta.values()]
        rows.append(torch.cat([g.flatten() for g in grads if g is not None]))
    return torch.stack(rows)


def samplers(
    task: Task, v: Tensor, h: int, random: torch.Generator
) -> dict[str, Callable[[], Chosen]]:
    """Ways to draw H of N images."""
    return {
        "uniform": lambda: sampling.uniform(len(v), h, random),
        "stratified": lambda: stratified(task.support_labels, h, random),
        "informed": lambda: sampling.informed(v, task.support_labels, h, random),
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
