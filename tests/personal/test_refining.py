"""`adapt --refine`: gradient steps where photos left out are named better after them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gradient_models import gradient_model
from torch import Tensor

from command_line import Run, is_one_clear_line
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.heads.adapted import AdaptedHead
from fewshot_lite.heads.registry import NAMED_HEADS
from fewshot_lite.learners import Frozen
from fewshot_lite.learners.base import lower_maps_of
from fewshot_lite.maml.refined import RefinedLearner, Refinement
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.personal import meta_model, refining
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.refining import FEW_STEPS, try_refinement
from photos import SIZE, draw_classes

QUICK = Refinement(steps=6, film_lr=0.02, head_lr=0.02, batch=8)


def base() -> MetaModel:
    backbone = Backbone("conv4", SIZE, seed=1).eval()
    head = NAMED_HEADS["mahalanobis-root"]()
    return MetaModel(Frozen(backbone, head=head).requires_grad_(False), SIZE, {}, {"name": "tiny"})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meta_model, "RefinedLearner", lambda own: RefinedLearner(own, QUICK))


@pytest.fixture
def things(tmp_path: Path) -> Path:
    return draw_classes(tmp_path / "things", {"mug": 4, "keys": 3})


def trial(x: Tensor, labels: Tensor, always: bool = False) -> refining.Trial:
    learner = RefinedLearner(base().learner, QUICK)
    rows = lower_maps_of(learner, x)
    groups = torch.arange(len(labels))
    return try_refinement(learner, rows, labels, int(labels.max()) + 1, groups, always=always)


def test_photos_are_named_by_models_that_never_saw_them() -> None:
    """Without a fold, one pass and the steps are as if its photos had never been there."""
    learner = RefinedLearner(base().learner, QUICK)
    images, labels = torch.rand(8, 3, SIZE, SIZE), torch.arange(8) % 2
    groups = torch.arange(8)
    found = try_refinement(learner, images, labels, 2, groups, always=True)
    assert found.crossed is not None
    place = refining.deal(labels, 2)
    kept = place != place[3]
    adapted = RefinedLearner(learner.base, Refinement(**{**vars(QUICK), "steps": found.steps}))
    task = adapted.adapt(images[kept], labels[kept], 2)
    expected = task.logits(images[3:4])[0]
    torch.testing.assert_close(found.crossed.logits[3], expected, rtol=1e-3, atol=1e-3)


def test_views_of_a_photo_are_left_out_together() -> None:
    """Two rows a photo that are alike: each would name the other right if it stayed."""
    learner = RefinedLearner(base().learner, QUICK)
    images = torch.rand(8, 3, SIZE, SIZE)
    labels = torch.arange(8) % 2
    twice, rows = images.repeat_interleave(2, 0), labels.repeat_interleave(2)
    groups = torch.arange(8).repeat_interleave(2)
    together = try_refinement(learner, twice, rows, 2, groups)
    apart = try_refinement(learner, twice, rows, 2, torch.arange(16))
    assert together.losses[0] > apart.losses[0] + 0.2
    assert together.accuracies[0] < apart.accuracies[0]


def test_auto_takes_the_steps_that_name_photos_left_out_best() -> None:
    found = trial(torch.rand(12, 3, SIZE, SIZE), torch.arange(12) % 3)
    assert set(found.losses) == {0, 5, 6}
    best = min((5, 6), key=found.losses.__getitem__)
    better = found.losses[best] < found.losses[0] and found.accuracies[best] >= found.accuracies[0]
    assert found.steps == (best if better else 0)
    assert (found.crossed is not None) == (found.steps > 0)
    always = trial(torch.rand(12, 3, SIZE, SIZE), torch.arange(12) % 3, always=True)
    assert always.steps in (5, 6)


def test_steps_that_gain_nothing_soon_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refining, "_SOON", 5)
    images, labels = torch.rand(12, 3, SIZE, SIZE), torch.arange(12) % 3
    losses = iter([1.0, 2.0])  # of 0 and 5 steps
    monkeypatch.setattr(refining, "_loss", lambda *_: next(losses))
    found = trial(images, labels)
    assert (found.steps, set(found.losses)) == (0, {0, 5})
    losses = iter([2.0, 1.0, 2.0, 1.0, 0.5])  # then of 0, 5 and 6
    monkeypatch.setattr(refining, "_accuracy", lambda *_: 1.0)
    found = trial(images, labels)
    assert (found.steps, set(found.losses)) == (6, {0, 5, 6})


def test_one_photo_of_each_class_leaves_nothing_to_choose_by() -> None:
    images, labels = torch.rand(3, 3, SIZE, SIZE), torch.arange(3)
    assert trial(images, labels).steps == 0
    assert trial(images, labels, always=True).steps == min(FEW_STEPS, QUICK.steps)


@pytest.mark.usefixtures("quick")
def test_a_refined_model_is_a_personal_model(things: Path, tmp_path: Path) -> None:
    model = base().adapt(things, refine="on")
    assert isinstance(model.head, AdaptedHead)
    assert model.head.normalised
    assert model.provenance["refined"]["steps"] in (5, 6)
    assert model.adapted_by_gradient
    left_out = model.leave_one_out_logits()
    assert left_out.shape == (7, 2)
    assert bool(left_out.isfinite().all())
    model.save(tmp_path / "mine.safetensors")
    again = PersonalModel.load(tmp_path / "mine.safetensors")
    photo = next(iter((things / "mug").iterdir()))
    ours, theirs = model.classify(photo), again.classify(photo)
    assert ours.label == theirs.label
    assert ours.labels[0][1] == pytest.approx(theirs.labels[0][1], abs=2e-3)


@pytest.mark.usefixtures("quick")
def test_where_one_pass_is_kept_it_is_the_one_pass_model(
    things: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refining, "_loss", lambda *_: 1.0)
    kept, plain = base().adapt(things, refine="auto"), base().adapt(things)
    assert kept.provenance["refined"]["steps"] == 0
    assert torch.equal(kept.features, plain.features)
    assert torch.equal(kept.leave_one_out_logits(), plain.leave_one_out_logits())


def test_steps_that_diverge_leave_the_one_pass_model(
    things: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object, **__: object) -> None:
        raise FewshotError("Refining diverged.")

    monkeypatch.setattr(RefinedLearner, "refine", diverge)
    model = base().adapt(things, refine="on")
    assert model.provenance["refined"] == {"steps": 0, "note": "Refining diverged."}
    assert not model.adapted_by_gradient


def test_what_does_not_go_together_is_refused(things: Path) -> None:
    with pytest.raises(UsageError, match="--head ridge: must be left out with --refine"):
        base().adapt(things, refine="auto", head="ridge")
    with pytest.raises(UsageError, match="adapts by gradient steps already"):
        gradient_model().adapt(things, refine="on")


@pytest.mark.usefixtures("quick")
def test_the_command_says_what_refining_came_to(
    run: Run, things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base().save(tmp_path / "base.safetensors")
    adapt = ("adapt", things, "--base", "base.safetensors", "--force", "--refine")
    outcome = run(*adapt, "on")
    assert outcome.code == 0, outcome
    assert "Refined by" in outcome.out
    outcome = run(*adapt, "auto", "--json")
    assert outcome.json["refined"]["steps"] in (0, 5, 6)
    is_one_clear_line(run(*adapt, "often"), 2, "--refine")
