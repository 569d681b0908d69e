"""Meta-gradients against autograd through every step, finite differences and enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewshot_lite.core.errors import UsageError
from fewshot_lite.learners.task import Task
from fewshot_lite.lite.sampling import Chosen
from fewshot_lite.maml import meta_gradient as module
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.imaml import ImplicitMaml
from fewshot_lite.maml.maml import FirstOrderMaml, Maml
from fewshot_lite.maml.meta_gradient import (
    gradient_step,
    meta_gradient,
    unrolled_gradient,
    vectorised_gradients,
)
from fewshot_lite.maml.params import Params
from fewshot_lite.networks.backbone import Backbone
from tiny import TinyBackbone, random_task

pytestmark = pytest.mark.slow

SIZE = 16


def smooth(network: nn.Module) -> None:
    """Without kinks: where there are some, the implicit function theorem has nothing to say."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Softplus())
            elif isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(2))


def conv4(learner: type[GradientLearner], **options: Any) -> Any:
    options = {"statistics": "support", **options}
    backbone = Backbone("conv4", SIZE, seed=3)
    smooth(backbone.network)
    generator = torch.Generator().manual_seed(4)
    for layer in backbone.network.modules():
        if isinstance(layer, nn.Conv2d):  # as torch draws them, features would hardly vary
            nn.init.kaiming_normal_(layer.weight, generator=generator)
    return learner(backbone, **options).double()


@pytest.fixture
def task() -> Task:
    return random_task([2, 1, 2], 4, SIZE)


def error(found: Params, exact: Params) -> float:
    """Largest of the relative errors of the parameters."""
    assert found.keys() == exact.keys()
    scale = max(float(v.norm()) for v in exact.values())
    return max(
        float((found[k] - exact[k]).norm() / max(float(exact[k].norm()), 1e-6 * scale))
        for k in exact
    )


@pytest.mark.parametrize("statistics", ["support", "running"])
@pytest.mark.parametrize(
    ("head", "pattern"),
    [
        *itertools.product(["means", "learned"], [None, "00111", "10100", "11111,00001,00110"]),
        ("means", "00000"),
    ],
)
def test_maml_is_autograd_through_all_steps(
    task: Task, statistics: str, head: str, pattern: str | None
) -> None:
    learner = conv4(
        Maml,
        inner_steps=3,
        inner_lr=0.05,
        inner_head=head,
        way=3,
        statistics=statistics,
        pattern=pattern,
    )
    exact = unrolled_gradient(learner, task)
    found = meta_gradient(learner, task, micro_batch=2)
    assert error(found.gradients, exact.gradients) < 1e-9
    assert torch.allclose(found.loss, exact.loss)
    assert found.accuracy == exact.accuracy


def test_maml_agrees_with_finite_differences(task: Task) -> None:
    learner = conv4(Maml, inner_steps=2, inner_lr=0.1)
    found = meta_gradient(learner, task)
    direction = {k: torch.randn_like(v) for k, v in found.gradients.items()}
    length = sum(float(d.square().sum()) for d in direction.values()) ** 0.5
    direction = {k: d / length for k, d in direction.items()}
    slope = sum(float((found.gradients[k] * d).sum()) for k, d in direction.items())
    losses = []
    for sign in (-1, 1):
        with torch.no_grad():
            for name, parameter in learner.named_parameters():
                parameter.add_(sign * 1e-4 * direction[name])
        losses.append(float(meta_gradient(learner, task).loss))
        with torch.no_grad():
            for name, parameter in learner.named_parameters():
                parameter.sub_(sign * 1e-4 * direction[name])
    assert (losses[1] - losses[0]) / 2e-4 == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("learner", [Maml, ImplicitMaml])
def test_single_precision_is_enough_where_there_are_no_kinks(
    learner: type[GradientLearner], task: Task
) -> None:
    """With them it jumps: see "In single precision" in `docs/mathematics/maml.md`."""
    options = {"lam": 10.0} if learner is ImplicitMaml else {}
    made = conv4(learner, inner_steps=5, inner_lr=0.05, **options)
    exact = meta_gradient(made, task).gradients
    low = replace(task, support=task.support.float(), query=task.query.float())
    found = meta_gradient(made.float(), low).gradients
    away = sum(float((found[k].double() - v).square().sum()) for k, v in exact.items())
    assert away**0.5 < 5e-5 * sum(float(v.square().sum()) for v in exact.values()) ** 0.5


def test_first_order_is_maml_without_its_second_derivatives(task: Task) -> None:
    first = meta_gradient(conv4(FirstOrderMaml, inner_steps=2), task)
    second = meta_gradient(conv4(Maml, inner_steps=2), task)
    assert torch.equal(first.loss, second.loss)
    assert error(first.gradients, second.gradients) > 1e-3
    still = meta_gradient(conv4(FirstOrderMaml, inner_steps=2, inner_lr=1e-12), task)
    exact = meta_gradient(conv4(Maml, inner_steps=2, inner_lr=1e-12), task)
    assert error(still.gradients, exact.gradients) < 1e-6


@pytest.mark.parametrize("moving", [{}, {"pattern": "00111"}, {"film_stages": 2}])
@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(
            {"inner_solver": "gd", "inner_steps": 80, "inner_lr": 0.05}, marks=pytest.mark.slow
        ),
        {"inner_solver": "hessian-free", "inner_steps": 4},
    ],
)
def test_imaml_agrees_with_many_unrolled_steps(
    task: Task, moving: dict[str, Any], solver: dict[str, Any]
) -> None:
    """On a smooth Conv-4, where both inner solvers converge."""
    options: dict[str, Any] = {"lam": 4.0, "statistics": "running", **moving}
    unrolled = conv4(ImplicitMaml, **options, inner_steps=80, inner_lr=0.05)
    exact = unrolled_gradient(unrolled, task).gradients
    found = meta_gradient(conv4(ImplicitMaml, **options, **solver, cg_steps=15), task)
    assert error(found.gradients, exact) < 1e-6  # 3e-8 at most
    assert int(found.negative_curvature) == 0
    rough = meta_gradient(conv4(ImplicitMaml, **options, **solver, cg_steps=1), task)
    assert error(rough.gradients, exact) > 1e-4


def subsets(number: int, h: int) -> Iterator[Chosen]:
    weights = torch.full((h,), number / h, dtype=torch.float64)
    for indices in itertools.combinations(range(number), h):
        yield Chosen(torch.tensor(indices), weights)


def enumerated(
    learner: GradientLearner, task: Task, monkeypatch: pytest.MonkeyPatch, *, shared: bool
) -> Params:
    """The mean gradient over all subsets of each draw, or of one that all draws share."""
    number, draws = len(task.support), learner.inner_steps + 1
    total: dict[str, Tensor] = {}
    count = 0
    all_subsets = list(subsets(number, 2))
    choices = (
        [(chosen,) * draws for chosen in all_subsets]
        if shared
        else itertools.product(all_subsets, repeat=draws)
    )
    for drawn in choices:
        coming = iter(drawn)
        monkeypatch.setattr(module.sampling, "uniform", lambda n, h, g, c=coming: next(c))
        generator = torch.Generator()
        found = meta_gradient(learner, task, generator, h=2).gradients
        total = {k: total[k] + v for k, v in found.items()} if total else dict(found)
        count += 1
    return {k: v / count for k, v in total.items()}


def test_lite_for_maml_is_unbiased(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all subsets of each Hessian's product and of the head's start, drawn independently."""
    learner = Maml(TinyBackbone(), inner_steps=2, inner_lr=0.5).double()
    task = random_task([2, 1], 3, SIZE)
    with monkeypatch.context() as patch:
        mean = enumerated(learner, task, patch, shared=False)
        shared = enumerated(learner, task, patch, shared=True)
    exact = unrolled_gradient(learner, task).gradients
    assert error(mean, exact) < 1e-9
    assert error(shared, exact) > 1e-6  # one subset for all draws would be biased


def test_draws_are_independent_and_of_size_h(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[int]] = []
    real = module.sampling.uniform

    def spy(number: int, h: int, generator: torch.Generator) -> Chosen:
        chosen = real(number, h, generator)
        drawn.append(chosen.indices.tolist())
        return chosen

    monkeypatch.setattr(module.sampling, "uniform", spy)
    learner = conv4(Maml, inner_steps=3, statistics="running")
    task = random_task([5, 5], 2, SIZE)
    meta_gradient(learner, task, torch.Generator().manual_seed(0), h=3)
    assert [len(indices) for indices in drawn] == [3] * 4
    assert len({tuple(indices) for indices in drawn}) > 1


@pytest.mark.parametrize("learner", [FirstOrderMaml, ImplicitMaml])
def test_where_a_subset_would_bias_all_images_are_taken(
    learner: type[GradientLearner], task: Task
) -> None:
    """The start's mean is linear for all; products with an inverse are not."""
    made = conv4(learner, inner_steps=2, inner_head="learned", way=3)
    exact = meta_gradient(made, task).gradients
    sampled = meta_gradient(made, task, torch.Generator().manual_seed(0), h=2).gradients
    assert error(sampled, exact) == 0


def test_coupled_images_are_never_sampled(task: Task) -> None:
    made = conv4(Maml, inner_steps=2)
    exact = meta_gradient(made, task).gradients
    sampled = meta_gradient(made, task, torch.Generator().manual_seed(0), h=2, micro_batch=1)
    assert error(sampled.gradients, exact) == 0


@pytest.mark.parametrize("learner", [Maml, FirstOrderMaml, ImplicitMaml])
def test_vectorised_tasks_have_the_same_gradients(learner: type[GradientLearner]) -> None:
    made = conv4(learner, inner_steps=2)
    tasks = [random_task([2, 2, 2], 3, SIZE) for _ in range(3)]
    for task, found in zip(tasks, vectorised_gradients(made, tasks), strict=True):
        alone = meta_gradient(made, task)
        assert error(found.gradients, alone.gradients) < 1e-9
        assert torch.allclose(found.loss, alone.loss)
        assert found.accuracy == alone.accuracy


def test_steps_add_to_the_gradients_of_what_is_learned(task: Task) -> None:
    made = conv4(Maml, inner_steps=1)
    found = meta_gradient(made, task)
    step = gradient_step(made, found, scale=0.25)
    gradient_step(made, found, scale=0.25)
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, 0.5 * found.gradients[name])
    assert step.loss == pytest.approx(float(found.loss))
    made.zero_grad()
    for one in vectorised_gradients(made, [task, task]):
        gradient_step(made, one, scale=0.25)
    for name, parameter in made.named_parameters():
        assert torch.allclose(parameter.grad, 0.5 * found.gradients[name])


def test_tasks_of_different_shapes_are_stepped_one_by_one(task: Task) -> None:
    made = conv4(Maml, inner_steps=1)
    tasks = [task, random_task([2, 2, 2], 3, SIZE)]
    for single in vectorised_gradients(made, tasks):
        gradient_step(made, single, scale=0.5)
    found = {name: p.grad for name, p in made.named_parameters()}
    made.zero_grad(set_to_none=True)
    for one in tasks:
        gradient_step(made, meta_gradient(made, one), scale=0.5)
    assert all(torch.equal(found[name], p.grad) for name, p in made.named_parameters())
    assert vectorised_gradients(made, []) == []


def test_a_frozen_backbone_gets_no_gradient(task: Task) -> None:
    made = conv4(Maml, inner_steps=1, backbone_lr=0.0)
    gradient_step(made, meta_gradient(made, task))
    assert made.head.log_temperature.grad is not None
    assert all(p.grad is None for p in made.backbone.parameters())


def test_another_way_than_a_learned_heads_is_refused(task: Task) -> None:
    made = conv4(Maml, inner_head="learned", way=5)
    for refused in (meta_gradient, unrolled_gradient):
        with pytest.raises(UsageError, match="learned for 5 classes, but there are 3"):
            refused(made, task)
