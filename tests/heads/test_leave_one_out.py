"""Leaving images out in closed form gives what fitting to the others gives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewshot_lite.heads import leave_one_out
from fewshot_lite.heads.adapted import AdaptedHead
from fewshot_lite.heads.base import Head, SupportSet
from fewshot_lite.heads.calibrated import CalibratedHead, as_array_head, calibrate
from fewshot_lite.heads.generated import GeneratedLinearHead
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.mean import MeanHead
from fewshot_lite.heads.nearest import NearestHead
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.ridge import RidgeHead

SHOTS = {
    "balanced": [4, 4, 4],
    "unbalanced": [1, 2, 7, 3, 3],
    "two images each": [2, 2, 2],
    "two and one": [2, 1],
    "one class": [3],
}
SUPPORTS = pytest.mark.parametrize("shots", SHOTS.values(), ids=SHOTS.keys())
#: Features per support image: where N is less than, equal to and more than the width d.
WIDTHS = pytest.mark.parametrize("width", [3.0, 1.0, 0.3], ids=["N<d", "N=d", "N>d"])


def support_set(shots: list[int], width: float) -> tuple[Tensor, Tensor]:
    """Features (N, d), not centred at 0, and labels (N,) in no order."""
    torch.manual_seed(0)
    labels = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))
    labels = labels[torch.randperm(len(labels))]
    d = max(2, int(width * len(labels)))
    centres = 2 * torch.randn(len(shots), d, dtype=torch.float64) + 3
    return centres[labels] + torch.randn(len(labels), d, dtype=torch.float64), labels


def refitted(head: Head, features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Logits of every image by a head that was fitted to the others."""
    rows = []
    for n in range(len(labels)):
        others = torch.arange(len(labels)) != n
        if not bool((labels[others] == labels[n]).any()):
            rows.append(features.new_full((1, classes), torch.nan))
            continue
        statistics = head.fit(features[others], labels[others], classes)
        rows.append(head.logits(statistics, features[n : n + 1]))
    return torch.cat(rows).detach()


@SUPPORTS
@WIDTHS
@pytest.mark.parametrize("root", [False, True], ids=["plain", "root"])
@pytest.mark.parametrize("beta", [1.0, 0.01])
def test_mahalanobis(shots: list[int], width: float, root: bool, beta: float) -> None:
    features, labels = support_set(shots, width)
    head = MahalanobisHead(beta, temperature=0.3, root=root).double()
    expected = refitted(head, features, labels, len(shots))
    found = head.leave_one_out_logits(features, labels, len(shots))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8, equal_nan=True)


@SUPPORTS
@pytest.mark.parametrize(
    "head",
    [PrototypeHead("euclidean"), PrototypeHead("cosine"), GeneratedLinearHead(6)],
    ids=["euclidean", "cosine", "generated"],
)
def test_heads_of_class_means(shots: list[int], head: Head) -> None:
    features, labels = support_set(shots, 6.001 / sum(shots))
    head = head.double()
    expected = refitted(head, features[:, :6], labels, len(shots))
    found = head.leave_one_out_logits(features[:, :6], labels, len(shots))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8, equal_nan=True)


@SUPPORTS
@WIDTHS
@pytest.mark.parametrize("root", [False, True], ids=["plain", "root"])
@pytest.mark.parametrize("strength", [0.1, 2.0])
def test_ridge(shots: list[int], width: float, root: bool, strength: float) -> None:
    features, labels = support_set(shots, width)
    head = RidgeHead(strength, root=root).double()
    expected = refitted(head, features, labels, len(shots))
    found = head.leave_one_out_logits(features, labels, len(shots))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8, equal_nan=True)


def test_ridge_of_many_photos_is_exact_too() -> None:
    features, labels = support_set([1, 2, 93, 60], 0.1)
    head = RidgeHead().double()
    expected = refitted(head, features, labels, 4)
    found = head.leave_one_out_logits(features, labels, 4)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8, equal_nan=True)


@SUPPORTS
def test_the_mean_of_heads(shots: list[int]) -> None:
    features, labels = support_set(shots, 2.0)
    head = MeanHead([MahalanobisHead(), RidgeHead(), PrototypeHead("cosine")], 1.3).double()
    expected = refitted(head, features, labels, len(shots))
    found = head.leave_one_out_logits(features, labels, len(shots))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8, equal_nan=True)


@SUPPORTS
def test_a_calibrated_head_counts_the_photos_that_are_left(shots: list[int]) -> None:
    features, labels = support_set(shots, 2.0)
    head = CalibratedHead(PrototypeHead("cosine"), 1.5, 0.7).double()
    expected = refitted(head, features, labels, len(shots))
    found = head.leave_one_out_logits(features, labels, len(shots))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8, equal_nan=True)


@SUPPORTS
def test_a_head_without_a_closed_form_is_fitted_again(shots: list[int]) -> None:
    features, labels = support_set(shots, 2.0)
    head = NearestHead(3)
    expected = refitted(head, features.float(), labels, len(shots))
    found = head.leave_one_out_logits(features.float(), labels, len(shots))
    torch.testing.assert_close(found, expected, equal_nan=True)


@SUPPORTS
@WIDTHS
@pytest.mark.parametrize(
    "views", [[2], [3, 1], [9, 3, 6]], ids=["two views", "three views or one", "clips in views"]
)
@pytest.mark.parametrize(
    "head",
    [
        MahalanobisHead(0.3, 0.2),
        RidgeHead(),
        PrototypeHead("cosine"),
        PrototypeHead("euclidean"),
        CalibratedHead(
            MeanHead([MahalanobisHead(0.3, root=True), RidgeHead(), PrototypeHead("cosine")]),
            1.5,
            0.7,
        ),
    ],
    ids=["mahalanobis", "ridge", "cosine", "euclidean", "mean"],
)
def test_a_photo_or_clip_is_left_out_with_all_of_its_rows(
    shots: list[int], width: float, views: list[int], head: Head
) -> None:
    features, labels = support_set(shots, width)
    head = head.double()
    repeats = torch.tensor(views).repeat(len(labels))[: len(labels)]
    photos = torch.arange(len(labels)).repeat_interleave(repeats)
    order = torch.randperm(len(photos))
    photos = photos[order]
    rows = features[photos] + 0.3 * torch.randn(len(photos), features.shape[1]).double()
    labels = labels[photos]
    found = head.leave_one_out_logits(rows, labels, len(shots), photos + 7)
    for photo in photos.unique().tolist():
        out = photos == photo
        if not bool((labels[~out] == labels[out][0]).any()):
            assert bool(found[out].isnan().all())
            continue
        statistics = head.fit(rows[~out], labels[~out], len(shots))
        expected = head.logits(statistics, rows[out])
        torch.testing.assert_close(found[out], expected, rtol=1e-8, atol=1e-8)


def test_a_photo_in_two_classes_is_refused() -> None:
    features, labels = support_set([3, 3], 2.0)
    with pytest.raises(ValueError, match="one has rows in two classes"):
        RidgeHead().leave_one_out_logits(features, labels, 2, torch.zeros(6, dtype=torch.int64))


def test_a_head_that_gradient_steps_adapted_leaves_no_photo_out() -> None:
    features, labels = support_set([3, 3], 2.0)
    head = AdaptedHead.of(torch.randn(2, features.shape[1]), torch.zeros(2))
    with pytest.raises(ValueError, match="cannot be fitted without an image"):
        head.leave_one_out_logits(features, labels, 2)


def test_large_features_and_few_precise_bits() -> None:
    features, labels = support_set([3, 4, 5], 2.0)
    head = MahalanobisHead(1.0, temperature=0.3)
    exact = head.double().leave_one_out_logits(100 * features, labels, 3)
    found = head.float().leave_one_out_logits(100 * features.float(), labels, 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact.float(), rtol=1e-3, atol=1e-3)


def test_a_class_without_images_is_refused() -> None:
    features, labels = support_set([3, 3], 2.0)
    with pytest.raises(ValueError, match="needs a support image"):
        MahalanobisHead().leave_one_out_logits(features, labels, 3)


def test_what_calibration_left_out_is_not_left_out_again_unless_something_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, labels = support_set([4, 3, 5], 3.0)
    head = calibrate(RidgeHead(), SupportSet(features, labels, 3))
    expected = head.leave_one_out_logits(features, labels, 3)
    ridge = leave_one_out._KINDS["ridge"]
    calls = []

    def counted(*args: Any) -> Any:
        calls.append(args)
        return ridge(*args)

    monkeypatch.setitem(leave_one_out._KINDS, "ridge", counted)  # type: ignore[arg-type]
    torch.testing.assert_close(head.leave_one_out_logits(features, labels, 3), expected)
    assert not calls
    features[0] += 1
    changed = head.leave_one_out_logits(features, labels, 3)
    assert len(calls) == 1
    assert not torch.allclose(changed, expected)
    changed.zero_()
    assert bool(head.leave_one_out_logits(features, labels, 3).abs().sum() > 0)


def test_threads_may_leave_out_at_once() -> None:
    rng = np.random.default_rng(0)
    head = as_array_head(PrototypeHead("cosine"))
    labels = np.arange(12) % 3
    supports = [(rng.normal(size=(12, 5)), labels, 3) for _ in range(60)]
    expected = [head.leave_one_out_logits(support) for support in supports]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(head.leave_one_out_logits, supports * 5))
    np.testing.assert_array_equal(found, expected * 5)
