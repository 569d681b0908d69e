"""Meta-gradients of single tasks in float32: how far from float64, and why.

    python -m benchmarks.accuracy.kinks --seeds 11

Conv-4 on tasks of random images, each in float32 and in float64 from the same weights. "error" is
the distance of the two meta-gradients as a share of the length of float64's. Two things make it
larger than rounding does:

"sides" counts what is on another side of a kink in float32 than in float64 anywhere on the way or
at the end: a ReLU's input of another sign, a maximum pooled from another pixel. Each run is made
once more without kinks, with Softplus and mean pooling in their place ("smooth").

"least" is the eigenvalue of I + H/λ nearest to 0, which iMAML's conjugate gradients divide by, from
Lanczos steps; where it is near 0 or below, the inner problem is hardly a minimum, or not.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.common import Row, arguments, emit, random_task, say
from fewshot_lite.learners.task import Task
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.imaml import ImplicitMaml
from fewshot_lite.maml.maml import Maml
from fewshot_lite.maml.meta_gradient import meta_gradient
from fewshot_lite.maml.params import Params, dot, only
from fewshot_lite.networks.backbone import Backbone

ARMS: dict[str, tuple[type[GradientLearner], dict[str, Any]]] = {
    "maml": (Maml, {"inner_steps": 5, "inner_lr": 0.1}),
    "imaml": (ImplicitMaml, {"inner_steps": 16, "inner_lr": 0.1, "lam": 2.0}),
    "imaml, λ = 10": (ImplicitMaml, {"inner_steps": 16, "inner_lr": 0.05, "lam": 10.0}),
}
#: An error that rounding alone does not make.
LARGE = 1e-4
#: Products with the Hessian, for its eigenvalues.
LANCZOS = 15


def main() -> None:
    args = arguments(__doc__, seeds=11, way=5, shot=1, queries=(3, "of a class"), image_size=28)
    rows = []
    for seed in range(args.seeds):
        for arm in ARMS:
            rows.append(run(args, arm, seed))
            say(rows[-1])
    emit("kinks", vars(args), {**summary(rows), "runs": rows})


def run(args: argparse.Namespace, arm: str, seed: int) -> Row:
    """One task in both precisions, with kinks and without."""
    torch.manual_seed(seed)
    found = random_task(args.way * args.shot, args.way * args.queries, args.way, args.image_size)
    task = replace(found, support=found.support / 255, query=found.query / 255)
    kind, options = ARMS[arm]
    backbone = Backbone("conv4", args.image_size, seed=seed)
    for layer in backbone.network.modules():
        if isinstance(layer, nn.Conv2d):  # as torch draws them, features hardly vary
            nn.init.kaiming_normal_(layer.weight)
    learner = kind(backbone, statistics="support", **options)
    smooth = copy.deepcopy(learner)
    without_kinks(smooth.backbone.network)
    row: Row = {"learner": arm, "seed": seed, **compare(learner, task)}
    return row | {f"smooth_{key}": value for key, value in compare(smooth, task).items()}


def compare(learner: GradientLearner, task: Task) -> Row:
    """The error of float32, kinks on other sides than in float64 of how many, and "least"."""
    made: list[tuple[Params, list[Tensor]]] = []
    least = None
    for kind in (torch.float32, torch.float64):
        same = copy.deepcopy(learner).to(kind)
        own = replace(task, support=task.support.to(kind), query=task.query.to(kind))
        with sides_of_kinks(same.backbone.network) as sides:
            gradient = meta_gradient(same, own, micro_batch=1000).gradients
        made.append((gradient, sides))
        if kind == torch.float64 and isinstance(same, ImplicitMaml):
            least = least_eigenvalue(same, own)
    (low, sides), (exact, exact_sides) = made
    away = {k: low[k].double() - v for k, v in exact.items()}
    return {
        "error": float((dot(away, away) / dot(exact, exact)).sqrt()),
        "sides": sum(int((a != b).sum()) for a, b in zip(sides, exact_sides, strict=True)),
        "of": sum(a.numel() for a in sides),
        "least": least,
    }


def least_eigenvalue(learner: ImplicitMaml, task: Task) -> float:
    """The eigenvalue nearest to 0 of I + H/λ at the end of the inner loop, by Lanczos steps."""
    prepared = learner.backbone.prepared(task.support)
    learned, names = learner.learned(), learner.updated_names()[0]
    with torch.no_grad():
        features = learner.features_from(learned, prepared)
        start = learner.start(learned, features, task.support_labels, task.classes)
        objective = learner.objective(prepared, task.support_labels, len(prepared))
        end = learner.solve(objective, start)
        shapes = only(end, names)
        flat = torch.cat([v.flatten() for v in shapes.values()])
        basis = [torch.randn_like(flat)]
        basis[0] /= basis[0].norm()
        projected = flat.new_zeros(LANCZOS, LANCZOS)
        for step in range(LANCZOS):
            parts = basis[-1].split([v.numel() for v in shapes.values()])
            vector = {k: p.view_as(shapes[k]) for k, p in zip(names, parts, strict=True)}
            product = objective.hessian_product(end, vector, names)
            x = basis[-1] + torch.cat([product[k].flatten() for k in names]) / learner.lam
            for _ in range(2):  # once more, for what rounding leaves
                for row, other in enumerate(basis):
                    share = x @ other
                    projected[row, step] += share
                    x = x - share * other
            basis.append(x / x.norm())
    found = torch.linalg.eigvalsh(projected.triu() + projected.triu(1).mT)
    return float(found[found.abs().argmin()])


@contextmanager
def sides_of_kinks(network: nn.Module) -> Iterator[list[Tensor]]:
    """While entered, the signs of ReLUs' inputs and the places of maxima are taken down."""
    found: list[Tensor] = []

    def relu(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
        found.append(plain(inputs[0]) > 0)

    def pool(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
        found.append(F.max_pool2d(plain(inputs[0]), 2, return_indices=True)[1])

    hooks = []
    for module in network.modules():
        if isinstance(module, nn.ReLU | nn.MaxPool2d):
            hook = relu if isinstance(module, nn.ReLU) else pool
            hooks.append(module.register_forward_hook(hook))
    try:
        yield found
    finally:
        for handle in hooks:
            handle.remove()


def plain(x: Tensor) -> Tensor:
    """The values of a tensor that torch.func may have wrapped."""
    x = x.detach()
    with suppress(Exception):
        while torch._C._functorch.is_functorch_wrapped_tensor(x):
            x = torch._C._functorch.get_unwrapped(x)
    return x.clone()


def without_kinks(network: nn.Module) -> None:
    """Softplus for ReLU and mean pooling for max-pooling, in place."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Softplus())
            elif isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(2))


def summary(rows: list[Row]) -> Row:
    """Errors by learner, and whether anything was on another side of a kink."""
    found: Row = {}
    for arm in ARMS:
        own = [row for row in rows if row["learner"] == arm]
        groups = {
            "same sides": [row["error"] for row in own if row["sides"] == 0],
            "other sides": [row["error"] for row in own if row["sides"] > 0],
            "smooth": [row["smooth_error"] for row in own],
        }
        found[arm] = {
            name: {
                "runs": len(errors),
                "large": sum(error > LARGE for error in errors),
                "smallest": min(errors, default=None),
                "largest": max(errors, default=None),
            }
            for name, errors in groups.items()
        }
    return found


if __name__ == "__main__":
    main()
