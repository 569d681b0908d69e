"""Which head is taken, and at which temperature."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.core.config import HeadName
from fewshot_lite.heads.array_head import DescribedHead
from fewshot_lite.heads.base import Head, SupportSet
from fewshot_lite.heads.calibrated import CalibratedHead, as_array_head, calibrate
from fewshot_lite.heads.calibration import leave_one_out_accuracy
from fewshot_lite.heads.choice import choose_head
from fewshot_lite.heads.choosing import choose
from fewshot_lite.heads.defaults import named_head
from fewshot_lite.heads.generated import GeneratedLinearHead
from fewshot_lite.heads.in_numpy import state_of
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.registry import NAMED_HEADS
from fewshot_lite.heads.ridge import RidgeHead

CLASSES, SHOT, WIDTH = 4, 6, 24
LABELS = torch.arange(CLASSES).repeat_interleave(SHOT)
OWN = MahalanobisHead(0.6, 0.3, root=True)
#: What the mean is of, in its order.
ALONE: tuple[HeadName, ...] = ("mahalanobis-root", "ridge", "cosine")
NAMES: tuple[HeadName, ...] = ("mahalanobis", "mahalanobis-root", "cosine", "euclidean", "ridge")


def support(noise: float) -> Tensor:
    return torch.randn(CLASSES, WIDTH)[LABELS] + noise * torch.randn(len(LABELS), WIDTH)


@pytest.mark.parametrize("name", NAMES)
def test_a_head_that_is_named_is_taken(name: HeadName) -> None:
    features = support(0.5)
    choice = choose_head(name, OWN, SupportSet(features, LABELS, CLASSES))
    assert choice.head.name == name
    assert choice.record()["asked"] == choice.record()["used"] == name
    logits = choice.head.logits(choice.head.fit(features, LABELS, CLASSES), features)
    assert float((logits.argmax(1) == LABELS).double().mean()) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_one_head_with_torch_and_without(name: HeadName) -> None:
    described = named_head(name, support(1.0).numpy())
    assert described.name == name
    torchs = NAMED_HEADS[name]()
    assert torchs.describe() == described.description
    state = torchs.state_dict()
    assert state.keys() == described.tensors.keys()
    if name != "euclidean":  # whose temperature is that of the photos
        assert {key: float(value) for key, value in state.items()} == described.tensors


@pytest.mark.parametrize("shots", [(6, 6, 6, 6), (9, 3, 1, 2), (1, 1, 1, 1)])
@pytest.mark.parametrize("own", [OWN, MahalanobisHead(1.2, 0.2)], ids=["root", "plain"])
@pytest.mark.parametrize("wanted", get_args(HeadName))
def test_choosing_without_torch_gives_the_same_head(
    wanted: HeadName, own: MahalanobisHead, shots: tuple[int, ...]
) -> None:
    labels = torch.arange(CLASSES).repeat_interleave(torch.tensor(shots))
    features = torch.randn(CLASSES, WIDTH)[labels] + torch.randn(len(labels), WIDTH)
    given = SupportSet(features, labels, CLASSES)
    torchs = choose_head(wanted, own, given)
    mine = choose(wanted, DescribedHead(own.describe(), state_of(own)), *given.arrays())
    assert isinstance(mine.head, DescribedHead)
    assert mine.record() == torchs.record()
    assert mine.head.description == torchs.head.describe()
    queries = torch.randn(9, WIDTH)
    double = torchs.head.double()
    expected = double.logits(double.fit(features.double(), labels, CLASSES), queries.double())
    found = mine.head.fit(given.arrays()[0])(queries.numpy())
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-6, atol=1e-6)


def test_the_bases_learned_constants_are_kept() -> None:
    choice = choose_head("mahalanobis-root", OWN, SupportSet(support(1.0), LABELS, CLASSES))
    assert isinstance(choice.head, CalibratedHead)
    own = choice.head.head
    assert isinstance(own, MahalanobisHead)
    assert own is not OWN
    assert float(own.beta.detach()) == pytest.approx(0.6)
    assert float(own.log_temperature.detach().exp()) == pytest.approx(0.3)
    assert choice.head.temperature_factor == choice.factor != 1.0


def test_the_papers_head_is_not_the_one_on_roots() -> None:
    """One name, one estimator, whatever the base's own is."""
    features = support(1.0)
    paper = choose_head("mahalanobis", OWN, SupportSet(features, LABELS, CLASSES)).head
    statistics = paper.fit(features, LABELS, CLASSES)
    assert statistics["centre"].equal(features.mean(0))


@pytest.mark.parametrize(
    ("own", "name"),
    [
        (OWN, "mean"),
        (PrototypeHead("cosine"), "cosine"),
        (PrototypeHead("euclidean"), "euclidean"),
        (GeneratedLinearHead(WIDTH), "generated-linear"),
        (RidgeHead(), "ridge"),
    ],
)
def test_the_default_is_for_the_head_of_the_base(own: Head, name: str) -> None:
    choice = choose_head("default", own, SupportSet(support(1.0), LABELS, CLASSES))
    assert choice.name == name
    assert choice.accuracies == {}


def test_the_mean_is_of_the_heads_that_can_be_had_alone() -> None:
    features = support(1.0)
    mean = choose_head("default", OWN, SupportSet(features, LABELS, CLASSES))
    queries = torch.randn(5, WIDTH)
    logits = []
    for name in ALONE:
        choice = choose_head(name, OWN, SupportSet(features, LABELS, CLASSES))
        statistics = choice.head.fit(features, LABELS, CLASSES)
        logits.append(choice.head.logits(statistics, queries) / choice.factor)
    found = mean.head.logits(mean.head.fit(features, LABELS, CLASSES), queries)
    torch.testing.assert_close(found, 1.3 * mean.factor * torch.stack(logits).mean(0))


def test_auto_takes_another_head_only_if_it_is_clearly_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cosines = iter((0.5, 0.64, 0.66))

    def accuracy(head: DescribedHead, *_: object) -> float:
        return next(cosines) if head.description["head"].get("metric") == "cosine" else 0.6

    monkeypatch.setattr("fewshot_lite.heads.calibration.leave_one_out_accuracy", accuracy)
    for expected in ("mean", "mean", "cosine"):
        choice = choose_head("auto", OWN, SupportSet(support(1.0), LABELS, CLASSES))
        assert choice.name == expected
        assert set(choice.record()["left_out_accuracy"]) == {"mean", *NAMES[1:]}


def test_auto_finds_the_head_for_features_whose_length_tells_nothing() -> None:
    """Directions tell the classes apart; lengths vary a thousandfold."""
    directions = F.normalize(torch.randn(CLASSES, WIDTH), dim=1)[LABELS]
    features = directions + 0.1 * torch.randn(len(LABELS), WIDTH)
    features = (
        features * torch.logspace(-1.5, 1.5, len(LABELS))[torch.randperm(len(LABELS))][:, None]
    )
    choice = choose_head("auto", PrototypeHead("euclidean"), SupportSet(features, LABELS, CLASSES))
    assert choice.name != "euclidean"
    assert choice.accuracies[choice.name] > choice.accuracies["euclidean"] + 0.05


def test_one_photo_of_each_class_leaves_nothing_to_choose_by() -> None:
    features = torch.randn(CLASSES, WIDTH)
    choice = choose_head("auto", OWN, SupportSet(features, torch.arange(CLASSES), CLASSES))
    assert choice.name == "mean"
    assert choice.factor == 1.0
    assert "nothing to cross-validate on" in choice.record()["note"]
    assert "left_out_accuracy" not in choice.record()


def test_choosing_is_not_random_and_leaves_the_random_state_alone() -> None:
    features = support(1.5)
    before = torch.get_rng_state()
    one = choose_head("auto", OWN, SupportSet(features, LABELS, CLASSES))
    other = choose_head("auto", OWN, SupportSet(features, LABELS, CLASSES))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.record() == other.record()


def test_classes_weigh_the_same_in_the_accuracy_and_lone_photos_nothing() -> None:
    """Ten photos of class 0 are named right, two of class 1 wrong; class 2 has one photo."""
    labels = torch.tensor([0] * 10 + [1] * 2 + [2])
    features = torch.zeros(13, 3)
    features[:10, 0] = 1
    features[10:12, 0] = 1.0 + torch.tensor([0.0, 1e-3])
    features[12, 2] = 1
    features[11, 1] = 5
    given = SupportSet(features, labels, 3).arrays()
    accuracy = leave_one_out_accuracy(as_array_head(PrototypeHead("euclidean")), *given)
    assert accuracy == pytest.approx(0.5)


@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_the_temperature_is_the_optimum_of_its_objective(noise: float) -> None:
    features = support(noise)
    head = NAMED_HEADS["mahalanobis-root"]()
    factor = calibrate(head, SupportSet(features, LABELS, CLASSES)).temperature_factor
    logits = head.leave_one_out_logits(features, LABELS, CLASSES).double()

    def cost(t: float) -> float:
        loss = F.cross_entropy(t * logits, LABELS, reduction="sum")
        return float(loss) + math.log(t) ** 2 / (2 * 0.5**2)

    assert cost(factor) < min(cost(factor * 1.03), cost(factor / 1.03))
    assert (factor < 1) == (noise == 3.0)
