"""Noise of LITE's gradient against H: uniform, informed and balanced sampling.

    python -m benchmarks.accuracy.gradient_noise MODEL DATA [DATA ...] --support 100,200 --tasks 20

Tasks come from the data sets in turn. For each the exact gradient of the FiLM parameters is split
into what each support image adds to it, g_n (one backward pass an image). A sampler's estimate is
Σ g_n/π_n over the images drawn, so its error is had for many draws at no cost; a balanced sample
needs passes of its own, and gets fewer draws. Figures are root mean squares over draws, relative to
the part of the gradient that comes through the support images, averaged over tasks.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from statistics import fmean

import torch
from torch import Tensor

from benchmarks.common import Row, arguments, emit_rows, say
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.data.episodes import Pool, sample_fixed_episode
from fewshot_lite.data.store import ImageStore
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.learners import Learner
from fewshot_lite.learners.task import Task
from fewshot_lite.lite import sampling
from fewshot_lite.lite import step as lite
from fewshot_lite.lite.sampling import Chosen
from fewshot_lite.networks.micro_batches import Passes
from fewshot_lite.personal.meta_model import MetaModel

#: Samplers that need no passes of their own, and how often each is drawn from.
SAMPLERS: dict[str, Callable[[Tensor, Tensor, int, torch.Generator], Chosen]] = {
    "uniform": lambda v, labels, h, random: sampling.uniform(len(v), h, random),
    "informed": sampling.informed,
}
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
        balanced_draws=8,
        seed=0,
    )
    emit_rows("gradient_noise", args, noise(args))


def noise(args: argparse.Namespace) -> Iterator[Row]:
    """Means over the tasks for each N, sampler and H, and their ratio to uniform sampling's."""
    model = MetaModel.load(args.model)
    model.learner.film.requires_grad_(True)
    folders = [scan_classes(path) for path in args.data]
    stores = [ImageStore(folder.paths, model.image_size) for folder in folders]
    for number in args.support:
        errors = defaultdict[tuple[str, int], list[float]](list)
        for position in range(args.tasks):
            random = generator(args.seed, Stream.BACK_PROPAGATED, position)
            store, folder = stores[position % len(stores)], folders[position % len(stores)]
            pool = Pool(folder, unreadable=list(store.problems))
            episode = sample_fixed_episode(pool, args.way, number // args.way, args.queries, random)
            task = episode.task(store[episode.support + episode.query])
            task = lite.task_of_maps(model.learner, task, Passes())
            for key, error in errors_of(model.learner, task, args, random):
                errors[key].append(error)
            say(f"N={number}: {position + 1} of {args.tasks} tasks")
        for (name, h), values in errors.items():
            rmse, uniform = fmean(values), fmean(errors["uniform", h])
            shown = {"relative_rmse": round(rmse, 4), "over_uniform": round(rmse / uniform, 3)}
            yield {"support": number, "sampler": name, "h": h} | shown


def errors_of(
    learner: Learner, task: Task, args: argparse.Namespace, random: torch.Generator
) -> Iterator[tuple[tuple[str, int], float]]:
    """The relative errors of one task by sampler and H."""
    one = torch.ones(1, dtype=torch.float64)
    alone = [Chosen(index, one) for index in torch.arange(len(task.support)).split(1)]
    parts, v = back_propagated(learner, task, alone)  # (N, P), (N, d)
    exact = parts.sum(0)
    for h in args.h:
        estimates = {}  # (draws, P)
        for name, draw in SAMPLERS.items():
            weights = torch.zeros(DRAWS, len(parts))
            for row in weights:
                chosen = draw(v, task.support_labels, h, random)
                row[chosen.indices] = chosen.weights.float()
            estimates[name] = weights @ parts
        draws = [sampling.balanced(v, h, random) for _ in range(args.balanced_draws)]
        estimates["balanced"] = back_propagated(learner, task, draws)[0]
        for name, found in estimates.items():
            error = (found - exact).square().sum(1).mean().sqrt()
            yield (name, h), float(error / exact.norm())


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


if __name__ == "__main__":
    main()
