"""Noise of LITE's gradient against H: uniform, stratified and informed sampling, and small tasks.

    python -m benchmarks.accuracy.gradient_noise MODEL DATA [DATA ...] --support 100,200 --tasks 20

Tasks come from the data sets in turn. For each the exact gradient of the FiLM parameters is split
into what each support image adds to it, g_n (one backward pass an image). A sampler's estimate is
Σ g_n/π_n over the images drawn, so its error is had for many draws at no cost; a balanced sample
needs passes of its own, and gets fewer draws. Small tasks are trained on as they are: their
gradient is that of another task, so their bias is shown beside their error.
"oracle" is computed, not drawn: a sample balanced on what nobody knows before drawing it. Figures
are root mean squares over draws, relative to the part of the gradient that comes through the
support images, averaged over tasks.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import Row, arguments, draw_lines, emit, say
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.data.episodes import Pool, sample_fixed_episode
from fewshot_lite.data.store import ImageStore
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.learners import Learner
from fewshot_lite.learners.task import Task
from fewshot_lite.lite import sampling
from fewshot_lite.lite import step as lite
from fewshot_lite.lite.baselines import small_task
from fewshot_lite.lite.sampling import Chosen
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.personal.meta_model import MetaModel

DRAWS = 300
#: By sampler and H, the relative error of each task.
Errors = defaultdict[tuple[str, int], list[float]]


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
    sets = [opened(path, model.image_size) for path in args.data]
    rows: list[Row] = []
    for number in args.support:
        errors: Errors = defaultdict(list)
        for position in range(args.tasks):
            random = generator(args.seed, Stream.BACK_PROPAGATED, position)
            store, pool = sets[position % len(sets)]
            episode = sample_fixed_episode(pool, args.way, number // args.way, args.queries, random)
            task = lite.task_of_maps(
                model.learner, episode.task(store[episode.support + episode.query]), Passes()
            )
            measure(model.learner, task, args, random, errors)
            say(f"N={number}: {position + 1} of {args.tasks} tasks")
        rows += table(number, errors)
    emit("gradient_noise", vars(args), rows)
    if args.plot:
        draw_lines(args.plot, panels(rows), ("H", "RMSE / norm of the exact gradient"))


def opened(path: Path, size: int) -> tuple[ImageStore, Pool]:
    """The images of a data set, and what tasks are drawn from."""
    folder = scan_classes(path)
    store = ImageStore(folder.paths, size)
    return store, Pool(folder, unreadable=list(store.problems))


def measure(
    learner: Learner,
    task: Task,
    args: argparse.Namespace,
    random: torch.Generator,
    errors: Errors,
) -> None:
    """Add one task's errors to the lists by sampler and H."""
    parts, v = contributions(learner, task)  # (N, P), (N, d)
    exact = parts.sum(0)
    scale = exact.norm()
    for h in args.h:
        for name, draw in samplers(task, v, h, random).items():
            weights = torch.zeros(DRAWS, len(parts))
            for row in weights:
                chosen = draw()
                row[chosen.indices] = chosen.weights.float()
            errors[name, h].append(float(mean_square(weights @ parts - exact).sqrt() / scale))
        errors["oracle", h].append(float(oracle_error(parts, v, h) / scale))
        draws = [sampling.balanced(v, h, random) for _ in range(args.balanced_draws)]
        balanced = back_propagated(learner, task, draws)[0] - exact
        errors["balanced", h].append(float(mean_square(balanced).sqrt() / scale))
        tasks = [small_task(task, h, random) for _ in range(args.small_draws)]
        found = [contributions(learner, small, total=True)[0][0] for small in tasks]
        away = torch.stack(found) - exact
        errors["small task", h].append(float(mean_square(away).sqrt() / scale))
        bias = squared_bias(away).clamp(min=0).sqrt() / scale
        errors["small task, bias", h].append(float(bias))


def oracle_error(parts: Tensor, v: Tensor, h: int) -> Tensor:
    """The error of a sample that nobody can draw, as it is balanced on the contributions, ().

    Images are as likely as in informed sampling; the sums of the H/4 largest principal components
    of the contributions (N, P) are exact in each draw, and of the rest Poisson's variance remains
    (Deville and Tillé, "Efficient balanced sampling: the cube method", 2004).
    """
    probabilities = sampling.inclusion_probabilities(v.norm(dim=1), h)
    assert probabilities is not None
    values, vectors = torch.linalg.eigh(parts.double() @ parts.double().mT)
    spread = vectors * values.clamp(min=0).sqrt() * (1 / probabilities - 1).sqrt()[:, None]
    rest: Tensor = torch.linalg.svdvals(spread)[h // 4 :].norm()
    return rest


def mean_square(errors: Tensor) -> Tensor:
    """Mean over draws of the squared length of errors (draws, P)."""
    return errors.square().sum(1).mean()


def squared_bias(errors: Tensor) -> Tensor:
    """Squared bias of estimates with these errors (draws, P), less what few draws add."""
    draws = len(errors)
    apparent = errors.mean(0).square().sum()
    return (draws * apparent - mean_square(errors)) / (draws - 1) if draws > 1 else apparent


def table(number: int, errors: Errors) -> list[Row]:
    """Means over the tasks, and their ratio to uniform sampling's."""
    return [
        {
            "support": number,
            "sampler": name,
            "h": h,
            "relative_rmse": round(fmean(values), 4),
            "over_uniform": round(fmean(values) / fmean(errors["uniform", h]), 3),
        }
        for (name, h), values in errors.items()
    ]


def panels(rows: list[Row]) -> list[tuple[str, dict[str, Any]]]:
    """Relative error against H, a panel for each N."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        lines = found.setdefault(f"N = {row['support']}", {})
        lines.setdefault(row["sampler"], []).append((row["h"], row["relative_rmse"]))
    return list(found.items())


def contributions(learner: Learner, task: Task, *, total: bool = False) -> tuple[Tensor, Tensor]:
    """The part of each support image in ∂L/∂θ: (N, P), or their sum (1, P); and v, (N, d)."""
    everything = torch.arange(len(task.support))
    parts = [
        Chosen(indices, torch.ones(len(indices), dtype=torch.float64))
        for indices in ([everything] if total else everything.split(1))
    ]
    return back_propagated(learner, task, parts)


def back_propagated(learner: Learner, task: Task, draws: list[Chosen]) -> tuple[Tensor, Tensor]:
    """Estimates of ∂L/∂θ through the support images, one for each draw: (draws, P); v, (N, d)."""
    learner.zero_grad()
    forward = lite.forward_support(learner, task, Passes())
    lite.backward_queries(learner, task, forward, 1.0, Passes())
    v = forward.features.grad
    assert v is not None
    rows = []
    for chosen in draws:
        for leaf in forward.theta.values():
            leaf.grad = None
        lite.backward_support(learner, task, forward, v, chosen, Passes())
        grads = [leaf.grad for leaf in forward.theta.values()]
        rows.append(torch.cat([g.flatten() for g in grads if g is not None]))
    return torch.stack(rows), v


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


if __name__ == "__main__":
    main()
