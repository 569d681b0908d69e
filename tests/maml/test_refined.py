"""Refinement: Adam's steps from the one-pass solution, on the upper stages of the backbone."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from gradient_models import gradient_model
from torch import Tensor

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.heads.registry import NAMED_HEADS
from fewshot_lite.learners import Frozen, SimpleCnaps
from fewshot_lite.learners.base import Learner, TaskClassifier
from fewshot_lite.maml.adam import Adam
from fewshot_lite.maml.patterns import stages_that_move
from fewshot_lite.maml.refined import (
    Moves,
    RefinedLearner,
    Refinement,
    leave_one_out_loss,
)
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.film import folded

LAYERS = ("block1", "block2", "block3", "block4", "head")
SETTINGS = Refinement(steps=12, moves="film", film_lr=0.02, batch=8)
#: The stages that move unless others are named.
UPPER = {"conv4": ("network.features.3.",), "resnet18": ("network.layer4.",)}


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
    return float(leave_one_out_loss(task.support_features, labels, int(labels.max()) + 1))


@pytest.mark.parametrize("base", [frozen(), cut()], ids=["frozen", "cut"])
def test_no_step_is_one_pass(base: Learner) -> None:
    images, labels = support()
    one_pass = base.adapt(images, labels, 3)
    task = RefinedLearner(base, replace(SETTINGS, steps=0)).adapt(images, labels, 3)
    torch.testing.assert_close(task.support_features, one_pass.support_features)
    queries = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(task.logits(queries), one_pass.logits(queries))


@pytest.mark.slow
@pytest.mark.parametrize("base", [frozen(), cut()], ids=["frozen", "cut"])
@pytest.mark.parametrize("moves", ["film", "weights"])
def test_steps_tell_photos_by_the_others_and_move_upper_stages_alone(
    base: Learner, moves: Moves
) -> None:
    images, labels = support()
    before = base.adapt(images, labels, 3)
    settings = replace(SETTINGS, moves=moves, weight_lr=1e-3)
    start = RefinedLearner(base, replace(settings, steps=0)).adapt(images, labels, 3)
    task = RefinedLearner(base, settings).adapt(images, labels, 3)
    assert loss_of(task, labels) < 0.9 * loss_of(start, labels)
    own = dict(base.backbone.named_parameters())
    moved = {
        name
        for name, value in task.parameters.items()
        if not torch.equal(value, before.parameters.get(name, own[name]))
    }
    upper = {n for n in own if n.startswith(UPPER[base.backbone.name])}
    norms = base.backbone.norm_layers()
    film = {name for name in upper if name.rpartition(".")[0] in norms}
    assert moved <= (film if moves == "film" else upper)
    assert len(moved - film) >= (1 if moves == "weights" else 0)
    assert len(moved & film) >= 2
    network = folded(base.backbone, task.parameters)
    torch.testing.assert_close(task.support_features, network(images), rtol=1e-3, atol=1e-4)


def test_the_same_seed_takes_the_same_steps() -> None:
    images, labels = support()
    base = frozen()
    first, again, other = (
        RefinedLearner(base, replace(SETTINGS, seed=seed)).adapt(images, labels, 3).support_features
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


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


def test_the_loss_names_each_by_the_others() -> None:
    """Against a loop; the last class has one photo, which is named by itself."""
    features = torch.randn(6, 5, dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 1, 3])
    f = F.normalize(features, dim=1)
    losses = []
    for n, label in enumerate(labels.tolist()):
        logits = []
        for k in (0, 1, 3):
            rest = (labels == k) & (torch.arange(6) != n)
            rest = rest if bool(rest.any()) else labels == k
            logits.append(15 * f[n] @ F.normalize(f[rest].sum(0), dim=0))
        target = torch.tensor([0, 1, 3]).tolist().index(label)
        losses.append(F.cross_entropy(torch.stack(logits), torch.tensor(target)))
    by_class = [torch.stack(losses[:3]).mean(), torch.stack(losses[3:5]).mean(), losses[5]]
    found = leave_one_out_loss(features, labels, 4)
    torch.testing.assert_close(found, torch.stack(by_class).mean())


def test_a_step_sees_one_view_of_each_photo() -> None:
    learner = RefinedLearner(frozen(), replace(SETTINGS, steps=50, batch=9))
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    photos = torch.tensor([5, 5, 7, 1, 1, 2, 2, 3])
    seen = [rows.tolist() for rows in learner._episodes(labels, photos)]
    assert len(seen) == 50
    assert all(sorted(photos[rows].tolist()) == [1, 2, 3, 5, 7] for rows in seen)
    assert {row for rows in seen for row in rows} == set(range(8))


def test_of_many_photos_a_step_sees_two_of_a_class_at_least() -> None:
    """The batch grows for them, to 64; of more classes a step sees some."""
    learner = RefinedLearner(frozen(), replace(SETTINGS, steps=40, batch=7))
    for classes, shown in ((10, 10), (40, 32)):
        labels, photos = torch.arange(4 * classes) % classes, torch.arange(4 * classes)
        seen = [torch.bincount(labels[rows]) for rows in learner._episodes(labels, photos)]
        assert all(sorted(set(counts.tolist()) - {0}) == [2] for counts in seen)
        assert all(int((counts > 0).sum()) == shown for counts in seen)
        assert {k for counts in seen for k in counts.nonzero().flatten().tolist()} == set(
            range(classes)
        )


def test_what_needs_no_gradient_can_be_run_by_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8), torch.arange(6) % 2
    base = frozen("efficientnet_lite0")
    settings = replace(SETTINGS, steps=2, film_lr=1e-4, pattern="features.14,features.17")
    by_torch = RefinedLearner(base, settings).adapt(images, labels, 2)
    learner = RefinedLearner(base, settings, image_size=32)
    starts: list[int] = []
    run = learner._run

    def counted(x: Tensor, parameters: dict[str, Tensor], start: int, stop: int | None) -> Tensor:
        starts.append(start)
        return run(x, parameters, start, stop)

    monkeypatch.setattr(learner, "_run", counted)
    found = learner.adapt(images, labels, 2)
    assert starts == [14, 14], "the two steps alone"
    expected = by_torch.support_features
    torch.testing.assert_close(found.support_features, expected, rtol=1e-3, atol=1e-3)


def test_views_of_a_class_s_only_photo_are_told_by_one_another() -> None:
    learner = RefinedLearner(frozen(), replace(SETTINGS, steps=1, batch=9))
    labels = photos = torch.tensor([0, 0, 0, 1, 1, 1])
    (rows,) = learner._episodes(labels, photos)
    assert sorted(rows.tolist()) == list(range(6))


def test_what_lies_below_is_computed_once_and_a_step_looks_at_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = RefinedLearner(frozen(), replace(SETTINGS, steps=2, batch=6))
    rows: list[tuple[int, int]] = []
    run = learner._run

    def counted(x: Tensor, parameters: dict[str, Tensor], start: int, stop: int | None) -> Tensor:
        rows.append((start, len(x)))
        return run(x, parameters, start, stop)

    monkeypatch.setattr(learner, "_run", counted)
    images, labels = torch.rand(30, 3, 32, 32), torch.arange(30) % 3
    learner.adapt(images, labels, 3)
    assert [n for start, n in rows if start == 0] == [30]
    assert [n for start, n in rows if start > 0] == [6, 6, 30]


def test_looks_see_the_way_there() -> None:
    images, labels = support()
    learner = RefinedLearner(frozen(), SETTINGS)
    seen: dict[int, float] = {}
    taken: list[tuple[int, int]] = []
    start = learner.base.adapt(images, labels, 3)
    task = learner.refine(
        start,
        learner.upper_maps(start, images),
        labels,
        3,
        torch.arange(len(labels)),
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
    learner = RefinedLearner(frozen(), replace(SETTINGS, film_lr=1e30, pattern="00111"))
    with pytest.raises(FewshotError, match="Refining diverged within 12 steps"):
        learner.adapt(images, labels, 3)


@pytest.mark.parametrize("pattern", ["00101", "block3", "block[3]", " block3 ", "block3,block3"])
def test_stages_are_named_or_have_digits(pattern: str) -> None:
    assert stages_that_move(pattern, LAYERS, 0) == (False, False, True, False, True)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("00001", "must name a stage. Name some of block2, block3, block4; or give film alone."),
        ("00010", "must end in 1: the head moves too"),
        ("11", "has 2 digits, must have 5 for block1, block2, block3, block4, head"),
        ("layer3", "layer3: no stage. Name some of"),
        ("block3,head", "head: no stage"),
        ("block3,,block4", "an empty name: no stage"),
        ("", "an empty name: no stage"),
        ("10011", "block1 cannot move: the base adapts from block2 up"),
        ("block*", "block1 cannot move"),
    ],
)
def test_a_pattern_that_moves_nothing_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^--refine-pattern {re.escape(pattern)}: .*{message}"):
        stages_that_move(pattern, LAYERS, 1)


def test_a_base_whose_lower_stages_are_computed_once_moves_none_of_them() -> None:
    with pytest.raises(UsageError, match="stem cannot move: the base adapts from layer3 up"):
        RefinedLearner(cut(), replace(SETTINGS, pattern="stem,layer4"))


def test_what_cannot_be_refined_is_refused() -> None:
    with pytest.raises(UsageError, match="adapts by gradient steps already"):
        RefinedLearner(gradient_model().learner)
    with pytest.raises(UsageError, match="stage by stage"):
        RefinedLearner(frozen("swin_t"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": -1},
        {"batch": 1},
        {"film_lr": 0.0},
        {"weight_lr": -1.0},
        {"proximal": -1.0},
        {"smoothing": 1.0},
        {"moves": "all"},
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        RefinedLearner(frozen(), replace(SETTINGS, **wrong))


def test_its_adam_is_torch_s() -> None:
    values = [torch.randn(5, 3), torch.randn(7)]
    expected = [value.clone().requires_grad_() for value in values]
    optimizer, own = torch.optim.Adam(expected, lr=0.01), Adam(values, 0.01)
    for _ in range(5):
        gradients = [torch.randn_like(value) for value in values]
        for value, gradient in zip(expected, gradients, strict=True):
            value.grad = gradient
        optimizer.step()
        own.step(gradients)
    assert all(torch.equal(one, other) for one, other in zip(values, expected, strict=True))
