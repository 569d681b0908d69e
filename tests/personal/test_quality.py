"""What leaving photos out tells: on clouds of features, where the truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from command_line import Run
from fewshot_lite.cli.render.quality import quality_json
from fewshot_lite.heads.calibrated import CalibratedHead
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.quality import Quality, assess, calibrated
from photos import SIZE, draw_classes, tiny_model
from tiny import personal_of

WIDTH = 1024  # of the network's features


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone("shufflenet_v2_x0_5", SIZE)


def clouds(shots: list[int], apart: float) -> tuple[Tensor, Tensor]:
    """Features (N, d) and labels; most of them constant, as if dead."""
    labels = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))
    features = torch.zeros(len(labels), WIDTH)
    centres = apart * torch.eye(len(shots), 8)
    features[:, :8] = centres[labels] + torch.randn(len(labels), 8)
    return features, labels


def model(
    backbone: Backbone, features: Tensor, labels: Tensor, photos: tuple[str, ...] = ()
) -> PersonalModel:
    names = tuple(f"class {k}" for k in range(int(labels.max()) + 1))
    head = MahalanobisHead(temperature=0.3)
    return personal_of(backbone, head, features, labels, names, SIZE, {}, photos)


def true_accuracy(personal: PersonalModel, shots: list[int], apart: float) -> float:
    queries, truth = clouds([300] * len(shots), apart)
    answers = personal.outputs_of(queries).probabilities.argmax(1)
    return float((answers == truth).double().mean())


@pytest.mark.parametrize("apart", [1.0, 2.0, 4.0])
def test_the_expected_accuracy_is_near_the_true_one(backbone: Backbone, apart: float) -> None:
    shots = [6, 6, 6]
    errors, covered = [], 0
    for _ in range(20):
        personal = model(backbone, *clouds(shots, apart))
        true, quality = true_accuracy(personal, shots, apart), assess(personal)
        assert quality.accuracy is not None
        assert quality.interval is not None
        errors.append(quality.accuracy - true)
        covered += quality.interval[0] <= true <= quality.interval[1]
    assert abs(sum(errors) / len(errors)) < 0.06
    assert covered >= 16


def told(
    backbone: Backbone, shots: list[int], wrong: list[int], sure: float = 2.0
) -> PersonalModel:
    """A model that names this many photos of each class wrong when left out.

    The logit of the answer is `sure`, and the others' are 0.
    """
    features, labels = clouds(shots, 1.0)
    personal = model(backbone, features, labels)
    answers = labels.clone()
    for k, count in enumerate(wrong):
        answers[(labels == k).nonzero().flatten()[:count]] = (k + 1) % len(shots)
    logits = sure * torch.nn.functional.one_hot(answers, len(shots)).double()
    logits[torch.tensor(shots)[labels] == 1] = torch.nan
    vars(personal)["leave_one_out_logits"] = lambda: logits
    return personal


@pytest.mark.parametrize("shots", [[10, 10], [4, 4, 4]])
def test_six_tenths_of_an_error_in_m_go_with_the_mth_photo(
    backbone: Backbone, shots: list[int]
) -> None:
    quality = assess(told(backbone, shots, [2] * len(shots)))
    assert quality.accuracy == pytest.approx(1 - 2 / shots[0] * (1 - 0.6 / shots[0]))


def test_every_class_weighs_the_same_however_many_photos_it_has(backbone: Backbone) -> None:
    quality = assess(told(backbone, [40, 2], [0, 2]))
    assert (quality.right, quality.photos) == (40, 42)
    assert quality.accuracy == pytest.approx(1 - 0.5 * (1 - 0.6 / 2))  # not 40 of 42
    assert quality.interval is not None
    assert quality.interval[1] - quality.interval[0] > 0.3  # half of it is from two photos
    assert [(c.name, c.photos, c.right) for c in quality.few] == [("class 1", 2, 0)]


@pytest.mark.parametrize(("lead", "accuracy"), [(0.7, 1), (0.6, 1 - 0.5 * (1 - 0.6 / 3))])
def test_half_of_what_a_class_gains_by_having_a_photo_fewer_is_taken_back(
    backbone: Backbone, lead: float, accuracy: float
) -> None:
    personal = told(backbone, [20, 3], [0, 0], sure=lead)
    personal.head = CalibratedHead(personal.head, 2, 5)  # gains 10 / √2 - 10 / √3 = 1.30
    quality = assess(personal)
    assert quality.accuracy == pytest.approx(accuracy)
    assert quality.right == 23


def test_few_photos_are_pointed_at_beside_many_only(backbone: Backbone) -> None:
    few = assess(told(backbone, [40, 5, 3, 1, 9], [0, 0, 1, 0, 0])).few
    assert [(c.name, c.photos, c.right) for c in few] == [("class 3", 1, 0), ("class 2", 3, 2)]
    assert assess(told(backbone, [2, 2, 3], [0, 0, 0])).few == ()


@pytest.mark.parametrize(
    ("shots", "enough"), [([2, 2], False), ([3, 3], True), ([40, 2], True), ([40, 1], False)]
)
def test_very_few_photos_are_not_enough_to_tell(
    backbone: Backbone, shots: list[int], enough: bool
) -> None:
    assert assess(told(backbone, shots, [0, 0])).enough == enough


@pytest.mark.parametrize("classes", [2, 5])
def test_a_wrong_label_is_as_likely_as_bayes_has_it(backbone: Backbone, classes: int) -> None:
    """One label in twenty is wrong before looking, and then any other class as likely."""
    quality = assess(told(backbone, [8] * classes, [1] + [0] * (classes - 1)))
    (doubt,) = quality.suspicious
    logits = 2.0 * torch.eye(classes, dtype=torch.float64)[:1].expand(8 * classes, -1)
    right = torch.ones(8 * classes, dtype=torch.int64)
    right[1:] = 0  # all but one are named right, as `calibrated` counts them
    p = torch.from_numpy(calibrated(logits.numpy(), right.numpy()))[0].softmax(0)
    other, own = float(p[0]), float(p[1])
    rest = 1 - own  # of the answer and of classes that nobody answered
    wrong = rest * 0.05 / (classes - 1)
    assert other > own
    assert doubt.probability == pytest.approx(wrong / (wrong + own * 0.95))


def test_clear_classes_have_nothing_wrong(backbone: Backbone) -> None:
    quality = assess(model(backbone, *clouds([5, 4, 3], 30.0)))
    assert (quality.right, quality.photos, quality.accuracy) == (12, 12, 1.0)
    assert (quality.confused, quality.suspicious, quality.alone) == ((), (), ())
    assert quality.confusion == ((5, 0, 0), (0, 4, 0), (0, 0, 3))
    assert quality.interval is not None
    assert 0.5 < quality.interval[0] < quality.interval[1] == 1.0


def test_a_photo_in_the_wrong_class_is_suspicious(backbone: Backbone) -> None:
    features, labels = clouds([8, 8, 8], 10.0)
    labels[3] = 2
    photos = tuple(f"photo {n}" for n in range(24))
    first, *others = assess(model(backbone, features, labels, photos)).suspicious
    assert others == []
    assert (first.index, first.photo) == (3, "photo 3")
    assert (first.label, first.looks_like) == ("class 2", "class 0")
    assert 0.25 <= first.probability <= 1
    (unnamed,) = assess(model(backbone, features, labels)).suspicious
    assert unnamed.photo is None


def test_alike_classes_are_confused_with_each_other(backbone: Backbone) -> None:
    features, labels = clouds([8, 8, 8], 10.0)
    features[8:16] -= features[8:16].mean(0) - features[:8].mean(0)  # class 1 lies on class 0
    quality = assess(model(backbone, features, labels))
    (pair,) = quality.confused
    assert pair.classes == ("class 0", "class 1")
    assert pair.photos == 16
    assert pair.mistaken == quality.confusion[0][1] + quality.confusion[1][0] > 2
    assert quality.right == 24 - pair.mistaken


def test_classes_of_one_photo_are_left_aside(backbone: Backbone) -> None:
    quality = assess(model(backbone, *clouds([5, 1, 4], 30.0)))
    assert quality.alone == ("class 1",)
    assert (quality.photos, quality.right) == (9, 9)
    assert quality.confusion[1] == (0, 0, 0)


def test_one_photo_each_tells_nothing(backbone: Backbone) -> None:
    quality = assess(model(backbone, *clouds([1, 1, 1], 3.0)))
    assert quality.accuracy is None
    assert quality.interval is None
    assert (quality.photos, quality.confused, quality.suspicious) == (0, (), ())
    assert len(quality.alone) == 3


def test_one_class_is_always_right(backbone: Backbone) -> None:
    quality = assess(model(backbone, *clouds([3], 3.0)))
    assert (quality.accuracy, quality.suspicious) == (1.0, ())


def test_calibration_makes_the_labels_likelier() -> None:
    logits = 20 * torch.randn(30, 4)
    labels = torch.where(torch.rand(30) < 0.6, logits.argmax(1), torch.arange(30) % 4)
    found = torch.from_numpy(calibrated(logits.numpy(), labels.numpy()))
    before, after = (x.log_softmax(1)[torch.arange(30), labels].sum() for x in (logits, found))
    assert after > before
    assert torch.equal(found.argmax(1), logits.argmax(1))


def test_json_of_quality(backbone: Backbone) -> None:
    quality = assess(model(backbone, *clouds([4, 4, 1], 1.0)))
    values = json.loads(json.dumps(quality_json(quality)))
    assert values["accuracy"] == quality.accuracy
    assert quality.interval == (values["interval"]["low"], values["interval"]["high"])
    assert values["alone"] == ["class 2"]
    assert set(values) == set(Quality.__dataclass_fields__)


@pytest.mark.slow
def test_adapt_says_how_good_it_is(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_model().save(tmp_path / "base.safetensors", half=True)
    draw_classes(tmp_path / "things", {"[b]mug": 4, "keys": 4, "lone": 1})
    outcome = run("adapt", "things", "--base", "base.safetensors")
    assert outcome.code == 0, outcome
    (line,) = (line for line in outcome.out.splitlines() if line.startswith("To expect"))
    assert "by leaving out each of 8 photos" in line
    assert "without lone" in outcome.out
    assert outcome.out.splitlines()[-1].startswith("Next: ")
    outcome = run("adapt", "things", "--base", "base.safetensors", "--json", "--force")
    assert json.loads(outcome.out)["quality"]["alone"] == ["lone"]
    draw_classes(tmp_path / "ones", {"mug": 1, "keys": 1})
    outcome = run("adapt", "ones", "--base", "base.safetensors", "--force")
    assert outcome.code == 0, outcome
    assert "no class has two photos" in outcome.out
    assert (
        json.loads(run("adapt", "ones", "--base", "base.safetensors", "--json", "--force").out)[
            "quality"
        ]["accuracy"]
        is None
    )
