"""`adapt --refine`: gradient steps where photos left out are named better after them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gradient_models import gradient_model
from torch import Tensor

from command_line import Run, is_one_clear_line
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.heads.base import SupportSet
from fewshot_lite.heads.choice import choose_head, untempered
from fewshot_lite.heads.registry import NAMED_HEADS
from fewshot_lite.learners import Frozen
from fewshot_lite.maml.refined import RefinedLearner, Refinement
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.personal import meta_model, refining
from fewshot_lite.personal.meta_model import REFINE_PATTERN, MetaModel
from fewshot_lite.personal.one_pass import OnePass
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.refining import FEW_STEPS, try_refinement
from fewshot_lite.personal.views import AS_IS
from photos import SIZE, draw_classes

QUICK = Refinement(steps=6, film_lr=0.02, weight_lr=0.01)


def base() -> MetaModel:
    backbone = Backbone("conv4", SIZE, seed=1).eval()
    head = NAMED_HEADS["mahalanobis-root"]()
    return MetaModel(Frozen(backbone, head=head).requires_grad_(False), SIZE, {}, {"name": "tiny"})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def refinement(self: MetaModel, pattern: str | None = None) -> Refinement:
        return replace(QUICK, pattern=pattern)

    monkeypatch.setattr(MetaModel, "refinement", refinement)


@pytest.fixture
def things(tmp_path: Path) -> Path:
    return draw_classes(tmp_path / "things", {"mug": 4, "keys": 3})


def trial(
    x: Tensor, labels: Tensor, groups: Tensor | None = None, always: bool = False
) -> refining.Trial:
    learner = RefinedLearner(base().learner, QUICK)
    classes = int(labels.max()) + 1
    start = learner.base.adapt(x, labels, classes)
    groups = torch.arange(len(labels)) if groups is None else groups
    as_is = torch.zeros(len(labels), dtype=torch.bool)
    as_is[[int((groups == g).nonzero()[0]) for g in groups.unique()]] = True
    given = start.support_features, labels, classes, groups, as_is
    choice = choose_head("default", learner.base.head, SupportSet(*given))
    maps = learner.upper_maps(start, x)
    one_pass = OnePass(start, choice, (AS_IS,), maps, labels, classes, groups, as_is)
    return try_refinement(learner, one_pass, always=always)


def test_photos_are_named_by_models_that_never_saw_them() -> None:
    """Without a fold, head and steps are as if its photos had never been there."""
    images, labels = torch.rand(8, 3, SIZE, SIZE), torch.arange(8) % 2
    found = trial(images, labels, always=True)
    assert found.crossed is not None
    kept = refining.deal(labels, 2) != refining.deal(labels, 2)[3]
    learner = base().learner
    adapted = RefinedLearner(learner, replace(QUICK, steps=found.steps))
    task = adapted.adapt(images[kept], labels[kept], 2)
    head = untempered(
        choose_head("default", learner.head, SupportSet(task.support_features, labels[kept], 2))
    )
    fitted = head.fit(task.support_features, labels[kept], 2)
    expected = head.logits(fitted, task.features(images[3:4]))[0]
    torch.testing.assert_close(found.crossed.logits[3], expected, rtol=1e-3, atol=1e-3)


def test_views_of_a_photo_are_left_out_together() -> None:
    """Two rows a photo that are alike: each would name the other right if it stayed."""
    images = torch.rand(8, 3, SIZE, SIZE)
    labels = torch.arange(8) % 2
    twice, rows = images.repeat_interleave(2, 0), labels.repeat_interleave(2)
    together = trial(twice, rows, torch.arange(8).repeat_interleave(2))
    apart = trial(twice, rows, torch.arange(16))
    assert together.losses[0] > apart.losses[0] + 0.2
    assert together.accuracies[0] < apart.accuracies[0]


def test_auto_takes_the_steps_that_name_photos_left_out_best() -> None:
    found = trial(torch.rand(12, 3, SIZE, SIZE), torch.arange(12) % 3)
    assert set(found.losses) == {0, 5, 6}
    best = min((5, 6), key=found.losses.__getitem__)
    right, loss = found.accuracies, found.losses
    better = right[best] > right[0] or (right[best] == right[0] and loss[best] < loss[0])
    assert found.steps == (best if better else 0)
    assert (found.crossed is not None) == (found.steps > 0)
    always = trial(torch.rand(12, 3, SIZE, SIZE), torch.arange(12) % 3, always=True)
    assert always.steps in (5, 6)


def test_auto_takes_no_step_where_one_pass_names_all_right() -> None:
    """Photos of two colours: nothing can be gained, and nothing is tried."""
    images = torch.zeros(8, 3, SIZE, SIZE)
    labels = torch.arange(8) % 2
    images[labels == 1, 0] = 1
    images += 0.05 * torch.rand_like(images)
    found = trial(images, labels)
    assert (found.steps, found.accuracies) == (0, {0: 1.0})
    assert trial(images, labels, always=True).steps in (5, 6)


def test_one_photo_of_each_class_leaves_nothing_to_choose_by() -> None:
    images, labels = torch.rand(3, 3, SIZE, SIZE), torch.arange(3)
    assert trial(images, labels).steps == 0
    assert trial(images, labels, always=True).steps == min(FEW_STEPS, QUICK.steps)


@pytest.mark.usefixtures("quick")
def test_a_refined_model_is_a_personal_model(things: Path, tmp_path: Path) -> None:
    model = base().adapt(things, refine="on")
    assert model.head.refits
    factor = model.provenance["head"]["temperature_factor"]
    assert factor == pytest.approx(model.head.temperature_factor)
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
    monkeypatch.setattr(refining, "_accuracy", lambda *_: 0.5)
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
    with pytest.raises(UsageError, match=r"--refine-pattern \['layer4'\]: must be a text"):
        base().adapt(things, refine="auto", refine_pattern=["layer4"])  # type: ignore[arg-type]
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
    monkeypatch.setattr(refining, "_accuracy", lambda *_: 1.0)
    outcome = run(*adapt, "auto")
    assert "Not refined: one pass names all photos that are left out right." in outcome.out
    is_one_clear_line(run(*adapt, "often"), 2, "--refine")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_refining_leaves_the_one_pass_model(
    run: Run, things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A real signal at the third step: what one pass made is written, and that is said."""
    monkeypatch.chdir(tmp_path)
    base().save(tmp_path / "base.safetensors")
    descend, before = RefinedLearner._descend, signal.getsignal(signal.SIGINT)

    def interrupted(*given: Any, **named: Any) -> Iterator[Any]:
        for step, found in enumerate(descend(*given, **named)):
            if step == 3:
                os.kill(os.getpid(), number)
            yield found

    adapt = ("adapt", things, "--base", "base.safetensors")
    plain = run(*adapt, "-o", "plain.safetensors", "--json")
    monkeypatch.setattr(RefinedLearner, "_descend", interrupted)
    outcome = run(*adapt, "-o", "mine.safetensors", "--refine", "on")
    assert outcome.code == 130, outcome
    assert "Not refined: interrupted. The one-pass model was kept." in outcome.out
    mine, other = (PersonalModel.load(f"{name}.safetensors") for name in ("mine", "plain"))
    assert plain.code == 0
    assert torch.equal(mine.features, other.features)
    assert not mine.adapted_by_gradient
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("quick")
def test_interrupted_before_refining_writes_nothing(
    run: Run, things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base().save(tmp_path / "base.safetensors")

    def interrupted(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(500):  # a thread of another library may take it, and it is noticed later
            time.sleep(0.01)

    monkeypatch.setattr(meta_model, "adapt_in_one_pass", interrupted)
    outcome = run("adapt", things, "--base", "base.safetensors", "--refine", "on")
    assert (outcome.code, outcome.err) == (130, "Error: Interrupted.\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.safetensors", "things"]


@pytest.mark.usefixtures("quick")
def test_the_stages_that_move_are_chosen(run: Run, things: Path, tmp_path: Path) -> None:
    """By the flag, else by what the base has stored; wrong ones are refused before any work."""
    model = base()
    path = tmp_path / "base.safetensors"
    model.save(path)
    adapt = (
        "adapt",
        things,
        "--base",
        path,
        "-o",
        tmp_path / "mine.safetensors",
        "--refine-pattern",
    )
    is_one_clear_line(run(*adapt, "block9", "--refine", "on"), 2, "block9: no stage")
    is_one_clear_line(run(*adapt, "00001", "--refine", "auto"), 2, "must name a stage")
    is_one_clear_line(run(*adapt, "block4"), 2, "goes with --refine auto|on")
    assert run(*adapt, "block4", "--refine", "on").code == 0
    own = model.learner.backbone.state_dict()
    moved = PersonalModel.load(tmp_path / "mine.safetensors").backbone.state_dict()
    names = {name for name in own if not torch.equal(own[name], moved[name])}
    assert names
    assert all(name.startswith("network.features.3.") for name in names)


def test_what_lambda_search_stored_is_what_moves() -> None:
    model = base()
    assert model.refinement() == model.refinement("film")
    model.record[REFINE_PATTERN] = "00011"
    assert model.refinement().pattern == "00011"
    assert model.refinement("block3").pattern == "block3"
    film = model.refinement("film")
    assert (film.moves, film.steps) == ("film", 5)
    layers = list(model.learner.backbone.norm_layers())
    moving = RefinedLearner(model.learner, film)._moving
    assert {name.rpartition(".")[0] for name in moving} == set(layers[2:]), "of the upper half"
    model.record[REFINE_PATTERN] = 5  # a damaged file
    with pytest.raises(UsageError, match="--refine-pattern 5: 5: no stage"):
        RefinedLearner(model.learner, model.refinement())
