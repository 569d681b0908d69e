"""Every learner adapts in one pass, the same however its support set is fed."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fewshot_lite.core.errors import UsageError
from fewshot_lite.learners import Learner
from fewshot_lite.learners.task import Task
from fewshot_lite.maml.registry import LEARNERS, make_learner
from fewshot_lite.networks.backbone import Backbone
from tiny import TinyBackbone, random_task

SMALL: dict[str, dict[str, Any]] = {
    "simple-cnaps": {"embedding_dim": 8, "encoder_size": 16},
    "cnaps": {"embedding_dim": 8, "encoder_size": 16},
    "protonets": {},
    "maml": {"inner_steps": 2},
    "fomaml": {"inner_steps": 2},
    "imaml": {"inner_steps": 2},
}
#: Learning rate of each learner's head as a multiple of the learner's.
HEAD_RATES = {"simple-cnaps": 20, "cnaps": 1, "protonets": 20, "maml": 1, "fomaml": 1, "imaml": 1}
EACH = pytest.mark.parametrize("name", list(LEARNERS))
IN_ONE_PASS = pytest.mark.parametrize("name", ["simple-cnaps", "cnaps", "protonets"])


def tiny_learner(name: str, **hyperparameters: Any) -> Learner:
    """In float64, with FiLM far from the identity, as after training."""
    learner = make_learner(name, TinyBackbone(), SMALL[name] | hyperparameters)
    for parameter_name, parameter in learner.named_parameters():
        if parameter_name.endswith(("rho", "sigma")):
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return learner.double()


def adapted_logits(learner: Learner, task: Task, **options: Any) -> Tensor:
    classifier = learner.adapt(task.support, task.support_labels, task.classes, **options)
    return classifier.logits(task.query)


@pytest.fixture
def task() -> Task:
    return random_task([3, 1, 4], queries=5)


def test_there_is_a_case_for_each_learner() -> None:
    assert set(SMALL) == set(LEARNERS)


@IN_ONE_PASS
def test_logits_are_the_heads_on_features_of_the_modulated_backbone(name: str, task: Task) -> None:
    learner = tiny_learner(name)
    z = learner.embed(task.support).mean(0) if learner.has_set_encoder else None
    theta = learner.norm_parameters(z)
    statistics = learner.head.fit(learner.features(task.support, theta), task.support_labels, 3)
    exact = learner.head.logits(statistics, learner.features(task.query, theta))
    logits = adapted_logits(learner, task)
    assert logits.shape == (5, 3)
    torch.testing.assert_close(logits, exact.detach(), rtol=1e-10, atol=1e-10)


@EACH
def test_the_order_of_the_support_set_does_not_matter(name: str, task: Task) -> None:
    learner = tiny_learner(name)
    order = torch.tensor([5, 0, 7, 2, 6, 1, 4, 3])
    shuffled = replace(task, support=task.support[order], support_labels=task.support_labels[order])
    got, expected = adapted_logits(learner, shuffled), adapted_logits(learner, task)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@EACH
@pytest.mark.parametrize("micro_batch", [1, 3, 1000])
def test_the_micro_batch_does_not_matter(name: str, task: Task, micro_batch: int) -> None:
    learner = tiny_learner(name)
    got = adapted_logits(learner, task, micro_batch=micro_batch)
    torch.testing.assert_close(got, adapted_logits(learner, task), rtol=1e-10, atol=1e-10)


@EACH
def test_adapting_changes_nothing_and_builds_no_graph(name: str, task: Task) -> None:
    learner = tiny_learner(name)
    before = {key: value.clone() for key, value in learner.state_dict().items()}
    classifier = learner.adapt(task.support, task.support_labels, task.classes)
    kept = (*classifier.parameters.values(), *classifier.statistics.values())
    for tensor in (*kept, classifier.support_features, classifier.logits(task.query)):
        assert not tensor.requires_grad
    for key, value in learner.state_dict().items():
        assert torch.equal(value, before[key]), key


@EACH
def test_bytes_and_floats_of_images_agree(name: str, task: Task) -> None:
    learner = tiny_learner(name).float()
    support, query = ((255 * x).round().to(torch.uint8) for x in (task.support, task.query))
    of_bytes = replace(task, support=support, query=query)
    of_floats = replace(task, support=support / 255, query=query / 255)
    got, expected = adapted_logits(learner, of_bytes), adapted_logits(learner, of_floats)
    torch.testing.assert_close(got, expected)


@IN_ONE_PASS
def test_networks_run_under_the_cast_and_heads_in_float32(name: str, task: Task) -> None:
    learner = tiny_learner(name).float()
    images = task.support.float()
    entered = []

    @contextlib.contextmanager
    def cast() -> Any:
        entered.append(True)
        with torch.autocast("cpu", torch.bfloat16):
            yield

    classifier = learner.adapt(images, task.support_labels, 3, micro_batch=4, cast=cast)
    passes = 4 if learner.has_set_encoder else 2  # two micro-batches a network
    assert len(entered) == passes
    logits = classifier.logits(task.query.float())
    assert len(entered) == passes + 2
    assert logits.dtype == torch.float32
    assert all(v.dtype in (torch.float32, torch.int64) for v in classifier.statistics.values())


@EACH
def test_a_learner_stays_in_evaluation_mode(name: str) -> None:
    learner = tiny_learner(name)
    assert not any(module.training for module in learner.modules())
    assert learner.train() is learner
    learner.train(True)
    assert not any(module.training for module in learner.modules())


@EACH
@pytest.mark.parametrize("backbone_lr", [0.0, 0.1])
def test_parameter_groups_hold_each_learned_parameter_once(name: str, backbone_lr: float) -> None:
    learner = tiny_learner(name, backbone_lr=backbone_lr)
    grouped = [id(p) for group in learner.parameter_groups(0.01) for p in group["params"]]
    assert len(set(grouped)) == len(grouped)
    for parameter_name, parameter in learner.named_parameters():
        learned = backbone_lr > 0 or not parameter_name.startswith("backbone.")
        assert parameter.requires_grad == learned, parameter_name
        assert (id(parameter) in grouped) == learned, parameter_name


@EACH
def test_learning_rates_are_shares_of_the_learners(name: str) -> None:
    learner = tiny_learner(name, backbone_lr=0.1)
    rates = {id(p): g["lr"] for g in learner.parameter_groups(0.01) for p in g["params"]}
    shares = {"backbone": 0.1, "head": HEAD_RATES[name], "set_encoder": 1, "film": 1}
    for parameter_name, parameter in learner.named_parameters():
        share = shares[parameter_name.split(".")[0]]
        assert rates[id(parameter)] == pytest.approx(0.01 * share), parameter_name


@EACH
def test_a_frozen_backbone_is_not_learned_and_a_thawed_one_is(name: str) -> None:
    backbone = TinyBackbone().requires_grad_(True)
    make_learner(name, backbone, {**SMALL[name], "backbone_lr": 0.0})
    assert not any(p.requires_grad for p in backbone.parameters())
    make_learner(name, backbone, {**SMALL[name], "backbone_lr": 0.1})
    assert all(p.requires_grad for p in backbone.parameters())


@EACH
def test_the_same_seed_builds_the_same_learner(name: str) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return tiny_learner(name).state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert first
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not all(torch.equal(value, other[key]) for key, value in first.items())


FILM = {
    "embedding_dim": 16,
    "hidden_dim": 8,
    "encoder_size": 32,
    "film_stages": None,
    "film_layers": "all",
    "backbone_lr": 0.2,
}
OTHERS: list[tuple[str, dict[str, Any]]] = [
    (
        "simple-cnaps",
        {**FILM, "root": False, "fixed_temperature": True},
    ),
    ("cnaps", {**FILM, "fixed_temperature": True}),
    ("protonets", {"metric": "cosine", "backbone_lr": 0.2}),
]


@pytest.mark.parametrize(("name", "hyperparameters"), OTHERS)
def test_hyperparameters_build_the_learner_again(
    name: str, hyperparameters: dict[str, Any], task: Task
) -> None:
    learner = make_learner(name, TinyBackbone(), hyperparameters).double()
    assert learner.hyperparameters() == hyperparameters
    again = make_learner(name, TinyBackbone(), learner.hyperparameters()).double()
    again.load_state_dict(learner.state_dict())
    assert torch.equal(adapted_logits(again, task), adapted_logits(learner, task))


@EACH
def test_a_copy_of_a_learner_that_has_run_runs_its_own_weights(name: str, task: Task) -> None:
    def made() -> Learner:
        return make_learner(name, Backbone("conv4", 16, seed=0), SMALL[name]).double()

    learner, again = made(), made()
    names = set(learner.state_dict())
    before = adapted_logits(learner, task)
    assert set(learner.state_dict()) == names
    other = copy.deepcopy(learner)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    again.load_state_dict(other.state_dict())
    assert torch.equal(adapted_logits(other, task), adapted_logits(again, task))
    assert torch.equal(adapted_logits(learner, task), before)


def test_an_unknown_learner_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"^learner 'nonesuch': unknown") as caught:
        make_learner("nonesuch", TinyBackbone(), {})
    assert all(name in str(caught.value) for name in LEARNERS)


@pytest.mark.parametrize("name", ["simple-cnaps", "cnaps"])
def test_film_depends_on_the_support_images(name: str, task: Task) -> None:
    learner = tiny_learner(name)
    first = learner.adapt(task.support, task.support_labels, 3)
    second = learner.adapt(1 - task.support, task.support_labels, 3)
    assert len(first.parameters) == 2 * len(learner.backbone.norm_layers())
    for key, value in first.parameters.items():
        assert not torch.allclose(value, second.parameters[key]), key
    assert learner.penalty() > 0


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_protonets_compare_with_class_means_of_plain_features(metric: str, task: Task) -> None:
    learner = tiny_learner("protonets", metric=metric)
    classifier = learner.adapt(task.support, task.support_labels, 3)
    with torch.no_grad():
        assert torch.equal(classifier.support_features, learner.backbone(task.support))
    assert classifier.parameters == {}
    assert set(classifier.statistics) == {"means"}
    assert float(learner.penalty()) == 0
    with pytest.raises(NotImplementedError, match="protonets has no set encoder"):
        learner.embed(task.support)


@EACH
def test_a_class_without_images_is_refused(name: str, task: Task) -> None:
    with pytest.raises(ValueError, match="every one of the 4 classes"):
        tiny_learner(name).adapt(task.support, task.support_labels, 4)
