"""LITE's gradient is unbiased: the average over all subsets is the gradient of plain autograd."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.core.config import Metric, Sampling
from fewshot_lite.core.errors import UsageError
from fewshot_lite.learners import Cnaps, Learner, ProtoNets, SimpleCnaps
from fewshot_lite.learners.task import Task
from fewshot_lite.lite import sampling
from fewshot_lite.lite import step as lite
from fewshot_lite.lite.baselines import full_step, small_task
from fewshot_lite.lite.sampling import Chosen
from fewshot_lite.lite.step import LiteStep, lite_step
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.micro_batches import Passes
from tiny import TinyBackbone, random_task

PENALTY = 0.01
REAL = {name: getattr(lite, name) for name in ("backward_support", "backward_set_encoder")}

LEARNERS = ["simple-cnaps", "simple-cnaps-root", "cnaps", "protonets", "protonets-cosine"]
LEARNERS += ["simple-cnaps-upper"]
#: For what goes through all subsets: seconds each with a set encoder.
ENUMERATED = [
    pytest.param("simple-cnaps", marks=pytest.mark.slow),
    pytest.param("simple-cnaps-root", marks=pytest.mark.slow),
    pytest.param("cnaps", marks=pytest.mark.slow),
    "protonets",
    "protonets-cosine",
    pytest.param("simple-cnaps-upper", marks=pytest.mark.slow),
]


def make_learner(name: str = "simple-cnaps") -> Learner:
    film = {"embedding_dim": 8, "encoder_size": 16, "backbone_lr": 1.0}
    learner: Learner
    if name.startswith("protonets"):
        metric: Metric = "cosine" if name.endswith("cosine") else "euclidean"
        learner = ProtoNets(TinyBackbone(), metric=metric)
    elif name == "cnaps":
        learner = Cnaps(TinyBackbone(), **film)
    elif name.endswith("upper"):  # FiLM above block 2 of four; the set encoder reads its map
        backbone = Backbone("conv4", 16)
        learner = SimpleCnaps(backbone, root=False, film_stages=2, backbone_lr=1.0)
        learner.double().set_encoder.standardise(
            learner.lower_maps(torch.rand(9, 3, 16, 16).double())
        )
    else:
        learner = SimpleCnaps(TinyBackbone(), root=name.endswith("root"), **film)
    for path, parameter in learner.named_parameters():
        if path.endswith((".rho", ".sigma")):  # FiLM far from the identity, as after training
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return learner.double()


def group_of(name: str) -> str:
    return name.split(".")[0]


def gradients(learner: Learner) -> dict[str, Tensor]:
    """The gradient of each parameter group as one vector."""
    groups: dict[str, list[Tensor]] = {}
    for path, parameter in learner.named_parameters():
        value = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        groups.setdefault(group_of(path), []).append(value.flatten())
    return {name: torch.cat(values) for name, values in groups.items()}


def exact_gradients(learner: Learner, task: Task) -> dict[str, Tensor]:
    """Plain autograd on the whole graph, in one piece."""
    learner.zero_grad()
    images, queries = learner.lower_maps(task.support), learner.lower_maps(task.query)
    z = learner.embed(images).mean(0) if learner.has_set_encoder else None
    theta = learner.norm_parameters(z)
    support = learner.features(images, theta)
    statistics = learner.head.fit(support, task.support_labels, task.classes)
    logits = learner.head.logits(statistics, learner.features(queries, theta))
    loss = F.cross_entropy(logits, task.query_labels) + PENALTY * learner.penalty()
    loss.backward()
    return gradients(learner)


def lite_gradients(
    learner: Learner, task: Task, first: Chosen | float, second: Chosen
) -> dict[str, Tensor]:
    """The step with given subsets for the backbone and for the set encoder."""
    learner.zero_grad()
    task = lite.task_of_maps(learner, task, Passes(4))
    forward = lite.forward_support(learner, task, Passes(4))
    lite.backward_queries(learner, task, forward, 1.0, Passes(4))
    v = forward.features.grad
    assert v is not None
    if isinstance(first, float):
        probabilities = sampling.inclusion_probabilities(v.norm(dim=1), 2)
        assert probabilities is not None
        order = sampling.spread(v, task.support_labels)
        drawn = sampling.systematic(probabilities[order], first)
        first = Chosen(order[drawn.indices], drawn.weights)
    lite.backward_support(learner, task, forward, v, first, Passes(4))
    lite.backward_set_encoder(learner, task, forward, second, Passes(4))
    if learner.has_set_encoder:
        (PENALTY * learner.penalty()).backward()
    return gradients(learner)


def average(parts: list[tuple[float, dict[str, Tensor]]]) -> dict[str, Tensor]:
    total = sum(weight for weight, _ in parts)
    return {k: sum(w / total * g[k] for w, g in parts) for k in parts[0][1]}  # type: ignore[misc]


def relative_errors(got: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    return {k: float((got[k] - exact[k]).norm() / exact[k].norm()) for k in exact}


def subsets(number: int, h: int) -> list[Chosen]:
    weights = torch.full((h,), number / h, dtype=torch.float64)
    return [Chosen(torch.tensor(c), weights) for c in itertools.combinations(range(number), h)]


@pytest.fixture
def task() -> Task:
    return random_task([3, 2, 1], queries=7)


@pytest.mark.parametrize("name", ENUMERATED)
def test_average_over_all_pairs_of_uniform_subsets_is_the_exact_gradient(
    task: Task, name: str
) -> None:
    learner = make_learner(name)
    exact = exact_gradients(learner, task)
    film = {"set_encoder", "film"} if learner.has_set_encoder else set()
    assert set(exact) == {"backbone", "head"} | film
    pairs = itertools.product(subsets(6, 2), subsets(6, 2))
    mean = average([(1.0, lite_gradients(learner, task, a, b)) for a, b in pairs])
    errors = relative_errors(mean, exact)
    assert max(errors.values()) < 1e-9, errors


@pytest.mark.slow
def test_the_step_as_a_whole_draws_two_subsets_and_is_unbiased(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner()
    exact = exact_gradients(learner, task)
    parts = []
    for pair in itertools.product(subsets(6, 2), subsets(6, 2)):
        draws = iter(pair)
        monkeypatch.setattr(sampling, "uniform", lambda *_, draws=draws: next(draws))
        learner.zero_grad()
        lite_step(learner, task, torch.Generator(), h=2, penalty_weight=PENALTY)
        assert next(draws, None) is None
        parts.append((1.0, gradients(learner)))
    errors = relative_errors(average(parts), exact)
    assert max(errors.values()) < 1e-9, errors


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["uniform", "informed", "balanced"])
def test_the_subsets_of_a_step_are_of_size_h_and_independent(
    sampler: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, task = make_learner(), random_task([3, 2, 1], queries=7)
    seen: dict[str, list[tuple[int, ...]]] = {"backward_support": [], "backward_set_encoder": []}
    for name, found in seen.items():

        def spy(*arguments: Any, name: str = name, found: list[tuple[int, ...]] = found) -> None:
            found += [tuple(a.indices.tolist()) for a in arguments if isinstance(a, Chosen)]
            REAL[name](*arguments)

        monkeypatch.setattr(lite, name, spy)
    random = torch.Generator().manual_seed(0)
    for _ in range(40):
        lite_step(learner, task, random, h=2, sampler=sampler)
    first, second = seen.values()
    assert {len(chosen) for chosen in second} == {2}
    assert len(set(first)) > 2
    same = sum(a == b for a, b in zip(first, second, strict=True))
    assert same < 15  # a fifteenth of 40 are expected
    # What the second draw gives does not follow from the first.
    assert len(set(zip(first, second, strict=True))) > len(set(first))


@pytest.mark.parametrize("sampler", ["uniform", "informed", "balanced"])
def test_the_sampler_asked_for_draws_the_first_subset(
    task: Task, sampler: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Chosen] = []
    names = ["uniform", "informed", "balanced"]
    for weight, name in enumerate(names):
        chosen = Chosen(torch.tensor([0]), torch.tensor([float(weight)]))
        monkeypatch.setattr(sampling, name, lambda *_, chosen=chosen: chosen)
    monkeypatch.setattr(lite, "backward_support", lambda *given: seen.append(given[4]))
    lite_step(make_learner(), task, torch.Generator(), h=1, sampler=sampler)
    assert seen[0].weights.tolist() == [names.index(sampler)]


def test_one_shared_subset_is_biased_in_the_set_encoder(task: Task) -> None:
    learner = make_learner()
    exact = exact_gradients(learner, task)
    mean = average([(1.0, lite_gradients(learner, task, s, s)) for s in subsets(6, 2)])
    errors = relative_errors(mean, exact)
    assert errors["set_encoder"] > 0.01, errors
    assert errors["film"] < 1e-9, errors


@pytest.mark.slow
@pytest.mark.parametrize("name", ENUMERATED)
def test_informed_subsets_average_to_the_exact_gradient(task: Task, name: str) -> None:
    """Integrated over the sampler's start: the subset changes only at few places in [0, 1)."""
    learner = make_learner(name)
    exact = exact_gradients(learner, task)
    learner.zero_grad()
    below = lite.task_of_maps(learner, task, Passes(4))
    forward = lite.forward_support(learner, below, Passes(4))
    lite.backward_queries(learner, below, forward, 1.0, Passes(4))
    assert forward.features.grad is not None
    v = forward.features.grad
    probabilities = sampling.inclusion_probabilities(v.norm(dim=1), 2)
    assert probabilities is not None
    ends = probabilities[sampling.spread(v, task.support_labels)].cumsum(0)
    marks = sorted({0.0, 1.0, *(float(end) % 1.0 for end in ends)})
    pieces = [(b - a, (a + b) / 2) for a, b in itertools.pairwise(marks) if b - a > 1e-12]
    parts = [
        (length, lite_gradients(learner, task, start, second))
        for length, start in pieces
        for second in subsets(6, 2)
    ]
    errors = relative_errors(average(parts), exact)
    assert max(errors.values()) < 1e-9, errors


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("micro_batch", [1, 4, 100])
def test_every_image_back_propagated_is_plain_autograd(
    task: Task, micro_batch: int, name: str
) -> None:
    learner = make_learner(name)
    exact = exact_gradients(learner, task)
    learner.zero_grad()
    lite_step(
        learner,
        task,
        torch.Generator(),
        h=None,
        micro_batch=micro_batch,
        penalty_weight=PENALTY,
    )
    assert max(relative_errors(gradients(learner), exact).values()) < 1e-9


@pytest.mark.parametrize("name", LEARNERS)
def test_every_image_back_propagated_is_plain_autograd_in_float32(name: str) -> None:
    learner = make_learner(name).float()
    task = random_task([3, 2, 1], queries=7, dtype=torch.float32)
    exact = exact_gradients(learner, task)
    learner.zero_grad()
    lite_step(learner, task, torch.Generator(), h=None, micro_batch=4, penalty_weight=PENALTY)
    assert max(relative_errors(gradients(learner), exact).values()) < 1e-5


@pytest.mark.parametrize("sampler", ["uniform", "informed", "balanced"])
def test_the_micro_batch_does_not_change_the_step(task: Task, sampler: Sampling) -> None:
    learner = make_learner()
    found = []
    for micro_batch in (1, 2, 5, 50):
        learner.zero_grad()
        random = torch.Generator().manual_seed(3)
        lite_step(learner, task, random, h=3, sampler=sampler, micro_batch=micro_batch)
        found.append(gradients(learner))
    for other in found[1:]:
        assert max(relative_errors(other, found[0]).values()) < 1e-9


def test_scale_scales_the_whole_gradient(task: Task) -> None:
    learner = make_learner()
    found = []
    for scale in (1.0, 0.25):
        learner.zero_grad()
        random = torch.Generator().manual_seed(3)
        lite_step(learner, task, random, h=3, scale=scale, penalty_weight=1.0)
        found.append(gradients(learner))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], 0.25 * value)


def test_a_frozen_backbone_gets_no_gradient(task: Task) -> None:
    learner = SimpleCnaps(TinyBackbone(), embedding_dim=8, encoder_size=16).double()
    lite_step(learner, task, torch.Generator().manual_seed(3), h=3)
    assert all(p.grad is None for p in learner.backbone.parameters())
    assert all(p.grad is not None for p in learner.film.parameters())


def test_h_beyond_n_and_classes_of_one_image_are_exact() -> None:
    learner = make_learner()
    for shots in ([3, 2, 1], [1, 1]):
        task = random_task(shots, queries=5)
        exact = exact_gradients(learner, task)
        learner.zero_grad()
        lite_step(learner, task, torch.Generator(), h=1000, penalty_weight=PENALTY)
        assert max(relative_errors(gradients(learner), exact).values()) < 1e-9


def test_the_loss_is_as_precise_as_the_learner() -> None:
    learner, task = make_learner(), random_task([3, 2, 2], queries=7)
    adapted = learner.adapt(task.support, task.support_labels, task.classes)
    exact = float(F.cross_entropy(adapted.logits(task.query), task.query_labels))
    found = lite_step(learner, task, torch.Generator(), micro_batch=2)
    assert found.loss == pytest.approx(exact, rel=1e-12)


def test_a_loss_that_is_not_finite_is_reported() -> None:
    learner = make_learner()
    task = random_task([2, 2], queries=3)
    task.query[0] = float("nan")
    step = lite_step(learner, task, torch.Generator())
    assert not torch.isfinite(torch.tensor(step.loss))


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("step", [lite_step, full_step])
def test_support_features_that_are_not_finite_give_a_loss_that_is_not(
    name: str, step: Callable[..., LiteStep]
) -> None:
    task = random_task([2, 2], queries=3)
    task.support[0] = float("nan")
    arguments = () if step is full_step else (torch.Generator(),)
    assert not math.isfinite(step(make_learner(name), task, *arguments).loss)


def test_gradients_of_support_features_that_are_not_finite_fall_back_to_uniform() -> None:
    v = torch.tensor([[float("nan")], [1.0], [1.0]])
    chosen = sampling.informed(v, torch.zeros(3), 2, torch.Generator())
    assert chosen.weights.tolist() == [1.5, 1.5]


@pytest.mark.parametrize("step", [lite_step, full_step])
def test_batch_statistics_are_refused(step: Callable[..., LiteStep]) -> None:
    learner = make_learner()
    learner.backbone.network[1].train()  # by hand: the learner itself stays in evaluation mode
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    task = random_task([2, 2], queries=3)
    arguments = () if step is full_step else (torch.Generator(),)
    with pytest.raises(
        ValueError, match=r"^backbone\.network\.1: .* batch statistics would couple"
    ):
        step(learner, task, *arguments)
    with pytest.raises(ValueError, match="batch statistics would couple"):
        learner.adapt(task.support, task.support_labels, 2)
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_labels": torch.tensor([0, 1, 2])}, "query: label 2 is no class .* are 0 to 1"),
        ({"query_labels": torch.tensor([0, 1, -100])}, "query: label -100 is no class"),
        ({"support_labels": torch.tensor([0, 0, 0, 0])}, "class 1: every class needs a support"),
        ({"support_labels": torch.tensor([0, 0, 1])}, "support: 4 images with 3 labels"),
        (
            {"query": torch.zeros(0, 3, 16, 16), "query_labels": torch.tensor([])},
            "query: 0 images with 0 labels",
        ),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda task: lite_step(make_learner(), task, torch.Generator()),
        lambda task: full_step(make_learner(), task),
        lambda task: small_task(task, 2, torch.Generator()),
    ],
)
def test_tasks_without_a_loss_are_refused(
    use: Callable[[Task], object], change: dict[str, Tensor], message: str
) -> None:
    task = replace(random_task([2, 2], queries=3), **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        use(task)


@pytest.mark.parametrize("numbers", [{"h": 0}, {"h": -1}, {"micro_batch": 0}])
def test_nothing_to_back_propagate_is_refused(task: Task, numbers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        lite_step(make_learner(), task, torch.Generator(), **numbers)


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("sampler", ["uniform", "informed", "balanced"])
def test_a_task_of_one_image_has_nothing_to_learn(name: str, sampler: Sampling) -> None:
    learner = make_learner(name)
    random = torch.Generator()
    options: dict[str, Any] = {"h": 1, "sampler": sampler, "penalty_weight": 0.0}
    step = lite_step(learner, random_task([1], queries=3), random, **options)
    assert step == LiteStep(loss=0.0, accuracy=1.0)
    assert all(not bool(value.any()) for value in gradients(learner).values())


@pytest.mark.parametrize("film_learner", [SimpleCnaps, Cnaps])
def test_film_refuses_a_backbone_without_norm_layers_or_their_biases(
    film_learner: type[SimpleCnaps | Cnaps],
) -> None:
    backbone = TinyBackbone()
    backbone.network[1].bias = None
    with pytest.raises(UsageError, match=r"norm layer 'network\.1' has no bias"):
        film_learner(backbone)
    backbone.network[1] = backbone.network[4] = torch.nn.Identity()
    with pytest.raises(UsageError, match=r"no normalisation layers.*ProtoNets"):
        film_learner(backbone)


def test_protonets_need_no_norm_layers() -> None:
    backbone = TinyBackbone()
    backbone.network[1] = backbone.network[4] = torch.nn.Identity()
    learner = ProtoNets(backbone).double()
    task = random_task([2, 2], queries=3)
    exact = exact_gradients(learner, task)
    learner.zero_grad()
    lite_step(learner, task, torch.Generator(), h=None)
    assert max(relative_errors(gradients(learner), exact).values()) < 1e-9


@pytest.mark.parametrize("learner", [SimpleCnaps, Cnaps, ProtoNets])
def test_batch_norm_without_running_statistics_is_refused(
    learner: type[SimpleCnaps | Cnaps | ProtoNets],
) -> None:
    backbone = TinyBackbone()
    backbone.network[4] = torch.nn.BatchNorm2d(6, track_running_stats=False)
    with pytest.raises(UsageError, match=r"'network\.4': BatchNorm without running statistics"):
        learner(backbone)


def test_a_class_that_no_query_has_and_classes_of_one_image() -> None:
    learner = make_learner()
    task = random_task([1, 1, 1, 1], queries=3)  # queries of classes 0 to 2 alone
    exact = exact_gradients(learner, task)
    learner.zero_grad()
    step = lite_step(learner, task, torch.Generator(), h=None, penalty_weight=PENALTY)
    assert 0 <= step.accuracy <= 1
    assert max(relative_errors(gradients(learner), exact).values()) < 1e-9


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("h", [2, 4])
@pytest.mark.slow
def test_balanced_samples_average_to_the_exact_gradient(task: Task, name: str, h: int) -> None:
    """Over all that can be drawn from the strata; the second subset is every image."""
    learner = make_learner(name)
    exact = exact_gradients(learner, task)
    learner.zero_grad()
    below = lite.task_of_maps(learner, task, Passes(4))
    forward = lite.forward_support(learner, below, Passes(4))
    lite.backward_queries(learner, below, forward, 1.0, Passes(4))
    v = forward.features.grad
    assert v is not None
    strata = sampling.strata_by_size(v.norm(dim=1), h)
    assert strata is not None
    drawn = itertools.product(
        *(map(torch.tensor, itertools.combinations(s.members.tolist(), s.take)) for s in strata)
    )
    parts = [
        (1.0, lite_gradients(learner, task, sampling.balance(v, strata, p), sampling.everything(6)))
        for p in drawn
    ]
    assert len(parts) > 1
    errors = relative_errors(average(parts), exact)
    assert max(errors.values()) < 1e-9, errors
