"""Refinement: Adam's steps from the one-pass solution, on upper FiLM and a cosine head."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from gradient_models import gradient_model
from torch import Tensor

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.heads.registry import NAMED_HEADS
from fewshot_lite.learners import Frozen, SimpleCnaps
from fewshot_lite.learners.base import Learner, TaskClassifier
from fewshot_lite.maml.refined import RefinedLearner, Refinement
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.film import folded

SETTINGS = Refinement(steps=12, film_lr=0.02, head_lr=0.02, batch=8)
#: The stages that move: the upper half, or those that the base's FiLM acts on.
UPPER = {
    "conv4": ("network.features.2.", "network.features.3."),
    "resnet18": ("network.layer3.", "network.layer4."),
}


def frozen(name: str = "conv4") -> Frozen:
    backbone = Backbone(name, 32, seed=1).eval()
    return Frozen(backbone, head=NAMED_HEADS["mahalanobis-root"]()).requires_grad_(False)


def cut() -> SimpleCnaps:
    """FiLM on the two upper stages, far from the identity."""
    learner = SimpleCnaps(Backbone("resnet18", 32, seed=1), film_stages=2)
    for path, parameter in learner.film.named_parameters():
        if path.endswith((".rho", ".sigma")):
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return learner.requires_grad_(False)


def support() -> tuple[Tensor, Tensor]:
    """Nine images of three noisy kinds, (9, 3, 32, 32), and their labels."""
    kinds = torch.rand(3, 3, 32, 32)
    labels = torch.arange(3).repeat_interleave(3)
    return (0.6 * kinds[labels] + 0.4 * torch.rand(9, 3, 32, 32)), labels


def loss_of(task: TaskClassifier, labels: Tensor) -> float:
    logits = task.learner.head.logits(task.statistics, task.support_features)
    return float(F.cross_entropy(logits, labels).detach())


@pytest.mark.parametrize("base", [frozen(), cut()], ids=["frozen", "cut"])
def test_no_step_is_the_one_pass_network_under_cosines_with_class_means(base: Learner) -> None:
    images, labels = support()
    one_pass = base.adapt(images, labels, 3)
    task = RefinedLearner(base, replace(SETTINGS, steps=0)).adapt(images, labels, 3)
    features = one_pass.support_features
    torch.testing.assert_close(task.support_features, features)
    directions = F.normalize(features, dim=1)
    means = F.normalize(torch.stack([directions[labels == k].mean(0) for k in range(3)]), dim=1)
    queries = torch.rand(2, 3, 32, 32)
    expected = 15 * F.normalize(one_pass.features(queries), dim=1) @ means.mT
    torch.testing.assert_close(task.logits(queries), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("base", [frozen(), cut()], ids=["frozen", "cut"])
def test_steps_fit_the_support_set_and_move_upper_norm_layers_alone(base: Learner) -> None:
    images, labels = support()
    before = base.adapt(images, labels, 3)
    start = RefinedLearner(base, replace(SETTINGS, steps=0)).adapt(images, labels, 3)
    task = RefinedLearner(base, SETTINGS).adapt(images, labels, 3)
    assert loss_of(task, labels) < 0.8 * loss_of(start, labels)
    own = dict(base.backbone.named_parameters())
    moved = {
        name
        for name, value in task.parameters.items()
        if not torch.equal(value, before.parameters.get(name, own[name]))
    }
    upper = {n for n in own if n.startswith(UPPER[base.backbone.name])}
    norms = base.backbone.norm_layers()
    assert moved <= {name for name in upper if name.rpartition(".")[0] in norms}
    assert len(moved) >= 4
    network = folded(base.backbone, task.parameters)
    torch.testing.assert_close(task.support_features, network(images), rtol=1e-3, atol=1e-4)


def test_the_same_seed_takes_the_same_steps() -> None:
    images, labels = support()
    base = frozen()
    first, again, other = (
        RefinedLearner(base, replace(SETTINGS, seed=seed)).adapt(images, labels, 3).statistics
        for seed in (1, 1, 2)
    )
    assert torch.equal(first["weight"], again["weight"])
    assert not torch.equal(first["weight"], other["weight"])


def test_the_proximal_term_keeps_film_near_the_start() -> None:
    images, labels = support()
    base = frozen()
    own = dict(base.backbone.named_parameters())

    def moved(proximal: float) -> float:
        task = RefinedLearner(base, replace(SETTINGS, proximal=proximal)).adapt(images, labels, 3)
        return sum(float((v - own[n]).square().sum()) for n, v in task.parameters.items())

    assert moved(100.0) < 0.3 * moved(0.0)


def test_a_pattern_says_which_stages_move() -> None:
    images, labels = support()
    base = frozen()
    task = RefinedLearner(base, replace(SETTINGS, pattern="00011")).adapt(images, labels, 3)
    assert task.parameters
    assert all(name.startswith("network.features.3.") for name in task.parameters)


def test_rare_classes_weigh_as_much_as_others() -> None:
    """Images of two classes that are alike: the head settles half way, whatever the numbers."""
    base = frozen()
    images = torch.rand(1, 3, 32, 32).repeat(9, 1, 1, 1)
    labels = torch.tensor([0] * 8 + [1])
    settings = replace(SETTINGS, steps=40, batch=9)
    task = RefinedLearner(base, settings).adapt(images, labels, 2)
    probabilities = task.logits(images[:1]).softmax(1)
    assert abs(float(probabilities[0, 0]) - 0.5) < 0.05


def test_what_lies_below_is_computed_once_and_of_no_more_images_than_the_steps_see(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = RefinedLearner(frozen(), replace(SETTINGS, steps=2, batch=4))
    rows: list[tuple[int, int]] = []
    run = learner._run

    def counted(x: Tensor, parameters: dict[str, Tensor], start: int, stop: int | None) -> Tensor:
        rows.append((start, len(x)))
        return run(x, parameters, start, stop)

    monkeypatch.setattr(learner, "_run", counted)
    images, labels = torch.rand(30, 3, 32, 32), torch.arange(30) % 3
    learner.adapt(images, labels, 3)
    assert sum(n for start, n in rows if start == 0) == 8
    assert [n for start, n in rows if start > 0] == [4, 4]


def test_looks_see_the_way_there() -> None:
    images, labels = support()
    learner = RefinedLearner(frozen(), SETTINGS)
    seen: dict[int, float] = {}
    taken: list[tuple[int, int]] = []
    start = learner.base.adapt(images, labels, 3)
    task = learner.refine(
        start,
        images,
        labels,
        3,
        on_step=lambda *at: taken.append(at),
        looks=(3, 12),
        look=lambda number, found: seen.update({number: loss_of(found, labels)}),
    )
    assert taken == [(n, 12) for n in range(1, 13)]
    assert seen[12] == pytest.approx(loss_of(task, labels))
    assert seen[3] > seen[12]
    short = RefinedLearner(learner.base, replace(SETTINGS, steps=3)).adapt(images, labels, 3)
    assert seen[3] == pytest.approx(loss_of(short, labels))


def test_steps_too_long_are_told() -> None:
    images, labels = support()
    learner = RefinedLearner(frozen(), replace(SETTINGS, film_lr=1e30))
    with pytest.raises(FewshotError, match="Refining diverged within 12 steps"):
        learner.adapt(images, labels, 3)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("00000", "must name a stage"),
        ("00010", "must name a stage, and end in 1"),
        ("11", "5"),
    ],
)
def test_a_pattern_that_adapts_nothing_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RefinedLearner(frozen(), replace(SETTINGS, pattern=pattern))


def test_what_cannot_be_refined_is_refused() -> None:
    with pytest.raises(UsageError, match="adapts by gradient steps already"):
        RefinedLearner(gradient_model().learner)
    with pytest.raises(UsageError, match="stage by stage"):
        RefinedLearner(frozen("swin_t"))


@pytest.mark.parametrize(
    "wrong",
    [{"steps": -1}, {"batch": 0}, {"film_lr": 0.0}, {"proximal": -1.0}, {"smoothing": 1.0}],
)
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RefinedLearner(frozen(), replace(SETTINGS, **wrong))
