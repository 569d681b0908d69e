"""Gradient learners whose steps move FiLM of the upper stages alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from fewshot_lite.core.errors import UsageError
from fewshot_lite.learners.task import Task
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.imaml import ImplicitMaml
from fewshot_lite.maml.maml import FirstOrderMaml, Maml
from fewshot_lite.maml.meta_gradient import meta_gradient, unrolled_gradient, vectorised_gradients
from fewshot_lite.maml.params import Params
from fewshot_lite.maml.registry import make_learner
from fewshot_lite.networks.backbone import Backbone
from tiny import random_task

pytestmark = pytest.mark.slow

SIZE = 16
UPPER = ("backbone.network.features.2.", "backbone.network.features.3.")


def made(learner: type[GradientLearner] = Maml, **options: Any) -> Any:
    """On Conv-4, of whose four stages FiLM acts on the upper two."""
    backbone = Backbone("conv4", SIZE, seed=3)
    generator = torch.Generator().manual_seed(4)
    for layer in backbone.network.modules():
        if isinstance(layer, torch.nn.Conv2d):  # as torch draws them, features would hardly vary
            torch.nn.init.kaiming_normal_(layer.weight, generator=generator)
    options = {"film_stages": 2, "inner_steps": 3, "inner_lr": 0.05} | options
    return learner(backbone, **options).double()


@pytest.fixture
def task() -> Task:
    return random_task([2, 1, 2], 4, SIZE)


def close(found: Params, exact: Params) -> None:
    assert found.keys() == exact.keys()
    for name, value in exact.items():
        assert float((found[name] - value).norm()) <= 1e-9 * float(value.norm()), name


def film_of(learner: GradientLearner) -> list[str]:
    norms = learner.backbone.norm_layers()
    names = [f"backbone.{layer}.{part}" for layer in norms for part in ("weight", "bias")]
    return [name for name in names if name.startswith(UPPER)]


def by_autograd(learner: Maml, task: Task) -> Params:
    """The meta-gradient in torch's autograd alone: whole images, one graph through all steps."""
    start = {n: p.detach().requires_grad_() for n, p in learner.named_parameters()}
    film = film_of(learner)
    wrt = [n for n in start if n in film or not n.startswith("backbone.")]

    def features(values: dict[str, Tensor], images: Tensor) -> Tensor:
        named = {name.removeprefix("backbone."): values[name] for name in film}
        found: Tensor = functional_call(learner.backbone, named, (images,))
        return found

    first = features(start, task.support)
    means = torch.stack([first[task.support_labels == k].mean(0) for k in range(task.classes)])
    temperature = start["head.log_temperature"].exp()
    # Copies, so that a slope is not also through the means that the head begins at.
    moving = {name: start[name].clone() for name in film}
    moving |= {"w": 2 * temperature * means, "b": -temperature * means.square().sum(1)}
    for _ in range(learner.inner_steps):
        logits = F.linear(features(moving, task.support), moving["w"], moving["b"])
        loss = F.cross_entropy(logits, task.support_labels)
        slopes = torch.autograd.grad(loss, list(moving.values()), create_graph=True)
        rates = [rate_of(learner, start, name) for name in moving]
        steps = zip(moving.items(), rates, slopes, strict=True)
        moving = {name: value - rate * slope for (name, value), rate, slope in steps}
    logits = F.linear(features(moving, task.query), moving["w"], moving["b"])
    loss = F.cross_entropy(logits, task.query_labels)
    return dict(zip(wrt, torch.autograd.grad(loss, [start[n] for n in wrt]), strict=True))


def rate_of(learner: Maml, start: dict[str, Tensor], name: str) -> Tensor | float:
    if "log_rates" not in start:
        return learner.inner_lr
    layer = int(name.split(".")[3]) if name.startswith("backbone.") else 4
    return start["log_rates"][layer].exp()


@pytest.mark.parametrize("layer_rates", [False, True])
def test_the_meta_gradient_is_autograd_through_the_steps(task: Task, layer_rates: bool) -> None:
    learner = made(layer_rates=layer_rates)
    if layer_rates:
        torch.nn.init.normal_(learner.log_rates, -3.0, 0.5)
    exact = by_autograd(learner, task)
    if layer_rates:  # what cannot move has no part
        assert torch.equal(exact["log_rates"][:2], torch.zeros(2))
        assert bool((exact["log_rates"][2:] != 0).all())
    close(meta_gradient(learner, task, micro_batch=2).gradients, exact)
    close(unrolled_gradient(learner, task).gradients, exact)


@pytest.mark.parametrize("pattern", ["00101", "00011,00001,00110", "00000"])
def test_patterns_choose_among_what_can_move(task: Task, pattern: str) -> None:
    learner = made(pattern=pattern, layer_rates=True)
    found = meta_gradient(learner, task, micro_batch=2)
    close(found.gradients, unrolled_gradient(learner, task).gradients)


@pytest.mark.parametrize("learner", [Maml, FirstOrderMaml, ImplicitMaml])
def test_maps_are_a_short_cut_alone(
    task: Task, learner: type[GradientLearner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a learner of all weights, of which the steps move the same."""
    short, whole = made(learner), made(learner, film_stages=None)
    names = short.updated_names()
    monkeypatch.setattr(whole, "updated_names", lambda: names)
    found, exact = meta_gradient(short, task).gradients, meta_gradient(whole, task).gradients
    assert set(found) == {*film_of(short), "head.log_temperature"}
    close(found, {name: exact[name] for name in found})
    adapted, beside = (x.adapt(task.support, task.support_labels, 3) for x in (short, whole))
    torch.testing.assert_close(adapted.logits(task.query), beside.logits(task.query))


def test_first_order_rates_follow_the_whole_way(task: Task) -> None:
    """Of steps so short that first order is exact."""
    options = {"layer_rates": True, "inner_lr": 1e-7}
    first = meta_gradient(made(FirstOrderMaml, **options), task).gradients
    exact = meta_gradient(made(Maml, **options), task).gradients
    torch.testing.assert_close(first["log_rates"], exact["log_rates"], rtol=1e-4, atol=0.0)


def test_vectorised_tasks_have_the_same_gradients() -> None:
    learner = made(layer_rates=True, inner_steps=2)
    tasks = [random_task([2, 2], 3, SIZE) for _ in range(2)]
    for task, found in zip(tasks, vectorised_gradients(learner, tasks), strict=True):
        close(found.gradients, meta_gradient(learner, task).gradients)


def test_film_is_all_that_moves_and_what_lies_below_runs_once(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = made()
    runs: list[int] = []
    lower = learner.lower_maps
    monkeypatch.setattr(learner, "lower_maps", lambda x: (runs.append(len(x)), lower(x))[1])
    adapted = learner.adapt(task.support, task.support_labels, 3)
    assert runs == [len(task.support)]
    assert {f"backbone.{name}" for name in adapted.parameters} == set(film_of(learner))
    learned = {n for n, p in learner.named_parameters() if p.requires_grad}
    assert learned == {*film_of(learner), "head.log_temperature"}


@pytest.mark.parametrize("options", [{}, {"pattern": "00001"}, {"layer_rates": True}])
def test_hyperparameters_make_it_again(options: dict[str, Any]) -> None:
    learner = made(FirstOrderMaml, **options)
    kept = learner.hyperparameters()
    again = make_learner("fomaml", Backbone("conv4", SIZE), kept)
    assert again.hyperparameters() == kept
    assert kept["film_stages"] == 2
    assert kept["pattern"] == options.get("pattern")
    assert again.state_dict().keys() == learner.state_dict().keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "01111"}, "--pattern 01111: updates block2, but with --film-stages 2 nothing"),
        ({"film_stages": 4}, "--film-stages 4: conv4 has 4 stages, so give 1 to 3"),
        ({"statistics": "support"}, "--film-stages 2: must be left out with --statistics support"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made(**options)
