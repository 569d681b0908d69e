"""Counts of photos do not decide: on clouds of features whose classes differ in number alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.core.config import HeadName
from fewshot_lite.heads.base import Head, SupportSet
from fewshot_lite.heads.calibrated import (
    CalibratedHead,
    calibrate,
    likeliest_factor,
)
from fewshot_lite.heads.calibration import scaled_cross_entropies
from fewshot_lite.heads.choice import choose_head
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.registry import make_head

WIDTH = 64
OWN = MahalanobisHead(0.7, 0.18, root=True)


def clouds(shots: list[int], apart: float = 0.5) -> tuple[Tensor, Tensor]:
    """Features (N, d), positive as after a ReLU, of overlapping classes; labels (N,)."""
    labels = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))
    centres = apart * F.one_hot(torch.arange(len(shots)), WIDTH) * WIDTH**0.5
    return (centres[labels] + torch.randn(len(labels), WIDTH) + 3).relu(), labels


def recalls(head: Head, support: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The share of 100 queries of each class that are named right, (K,)."""
    queries, truth = clouds([100] * classes)
    answers = head.logits(head.fit(support, labels, classes), queries).argmax(1)
    return (answers == truth).double().unflatten(0, (classes, 100)).mean(1)


@pytest.mark.parametrize("rare", [1, 2])
@pytest.mark.parametrize("name", ["default", "cosine"])
def test_a_rare_class_is_found_beside_a_common_one(name: HeadName, rare: int) -> None:
    found, without = [], []
    for _ in range(12):
        features, labels = clouds([40, rare])
        head = choose_head(name, OWN, SupportSet(features, labels, 2)).head
        assert isinstance(head, CalibratedHead)
        found.append(recalls(head, features, labels, 2))
        without.append(recalls(head.head, features, labels, 2))
    common, seldom = torch.stack(found).mean(0).tolist()
    assert seldom > 0.4 + torch.stack(without).mean(0)[1]
    assert common > 0.85


def test_nothing_changes_where_all_classes_have_as_many_photos() -> None:
    features, labels = clouds([5, 5, 5])
    assert float(calibrate(OWN, SupportSet(features, labels, 3)).count_offset) == 0


def test_views_of_a_photo_are_one_photo() -> None:
    """With every photo three times over, the offset at each count is what it was."""
    features, labels = clouds([12, 2])
    head = MahalanobisHead(0.7, 0.18, root=True)
    once = calibrate(head, SupportSet(features, labels, 2))
    photos = torch.arange(14).repeat_interleave(3)
    thrice = calibrate(head, SupportSet(features[photos], labels[photos], 2, photos))
    assert float(thrice.count_offset) > 0
    # The covariances differ by the factors of n - 1, so that logits differ a little too.
    assert float(thrice.count_offset) / 3**0.5 == pytest.approx(float(once.count_offset), rel=0.3)


def test_a_class_weighs_the_same_in_the_temperature_however_many_photos_it_has() -> None:
    logits = torch.tensor([[2.0, 0.0]] * 30 + [[0.5, 0.0]] * 2)
    labels = torch.tensor([0] * 30 + [1] * 2)
    # Class 1 is wrong by as little as class 0 is right by far: alone, class 0 asks for more.
    assert likeliest_factor(logits, labels) < likeliest_factor(logits[:30], labels[:30])
    even = torch.cat([logits[:2], logits[30:]]), torch.tensor([0, 0, 1, 1])
    # Two photos are as uncertain whether the other class has two or thirty.
    assert likeliest_factor(logits, labels) == pytest.approx(likeliest_factor(*even), rel=0.15)


def test_a_photo_is_one_photo_to_the_temperature_however_many_views_it_has() -> None:
    features, labels = clouds([6, 6])
    photos = torch.arange(12).repeat_interleave(3)
    rows = features[photos] + 0.1 * torch.randn(36, WIDTH)
    left_out = OWN.leave_one_out_logits(rows, labels[photos], 2, photos)
    expected = likeliest_factor(left_out[::3], labels)
    assert float(
        calibrate(OWN, SupportSet(rows, labels[photos], 2, photos)).factor
    ) == pytest.approx(expected)
    shuffled = torch.cat([torch.arange(0, 36, 3), torch.arange(1, 36, 3), torch.arange(2, 36, 3)])
    again = calibrate(
        OWN, SupportSet(rows[shuffled], labels[photos][shuffled], 2, photos[shuffled])
    )
    assert float(again.factor) == pytest.approx(expected, rel=0.05)


def test_scaled_cross_entropies_are_torchs_and_do_not_overflow() -> None:
    logits = torch.randn(9, 4, dtype=torch.float64) * torch.tensor([1, 1e5] + [3] * 7)[:, None]
    labels, factors = torch.arange(9) % 4, torch.tensor([0.1, 1, 7], dtype=torch.float64)
    expected = [F.cross_entropy(t * logits, labels, reduction="none") for t in factors]
    found = scaled_cross_entropies(logits.numpy(), labels.numpy(), factors.numpy())
    torch.testing.assert_close(torch.from_numpy(found), torch.stack(expected))


def test_heads_of_files_made_before_keep_their_law_of_counts() -> None:
    features, labels = clouds([9, 4])
    head = CalibratedHead(OWN, 2.0, 3.0)
    now = head.logits(head.fit(features, labels, 2), features)
    description = head.describe()
    del description["count_power"]
    old = make_head(description)
    old.load_state_dict(head.state_dict())
    before = old.logits(old.fit(features, labels, 2), features)
    per_count = torch.tensor([9.0, 4.0])
    torch.testing.assert_close(now - before, (6 / per_count.sqrt() - 6 / per_count).expand(13, 2))


@pytest.mark.parametrize("power", [-0.1, 1.5, float("nan"), "1", None])
def test_what_is_no_power_is_refused(power: Any) -> None:
    with pytest.raises(ValueError, match="count_power"):
        make_head(CalibratedHead(OWN).describe() | {"count_power": power})
