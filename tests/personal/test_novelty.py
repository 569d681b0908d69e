"""Strangeness is a distance, and its threshold loses as many of one's own photos as was asked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.core.errors import UsageError
from fewshot_lite.personal.novelty import NoveltyDetector
from fewshot_lite.personal.novelty_threshold import (
    novelty_of_support,
    student_quantile,
    threshold,
)


def support_set(shots: list[int], width: int = 12) -> tuple[Tensor, Tensor]:
    labels = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))
    centres = 3 * torch.randn(len(shots), width)
    return centres[labels] + torch.randn(len(labels), width) + 4, labels


def left_out(features: Tensor, labels: Tensor) -> list[float]:
    """How strange each is to the others."""
    classes = int(labels.max()) + 1
    found = novelty_of_support(features.numpy(), labels.numpy(), classes)
    assert found.dtype == np.float32
    return [float(value) for value in found]


def dense(
    features: Tensor,
    labels: Tensor,
    classes: int,
    queries: Tensor,
    weigh_by: Tensor | None = None,
) -> Tensor:
    """The weighted distance to the nearest class, by matrices."""
    x, q = (10 * F.normalize(t.double(), dim=1) for t in (features, queries))
    distances = []
    shots = weigh_by if weigh_by is not None else torch.bincount(labels, minlength=classes)
    factors = shots / (shots + 1)
    for k in range(classes):
        own = x[labels == k]
        weight = len(own) / (len(own) + 1)
        matrix = (1 - weight) * x.T.cov() + torch.eye(x.shape[1])
        if len(own) > 1:
            matrix = matrix + weight * own.T.cov()
        offsets = q - own.mean(0)
        distances.append((offsets @ matrix.inverse() * offsets).sum(1))
    return (torch.stack(distances, 1) * (factors / factors.max())).amin(1)


def test_strangeness_is_the_distance_to_the_nearest_class() -> None:
    features, labels = support_set([3, 1, 4])
    queries = torch.randn(6, 12) + 4
    found = NoveltyDetector(features, labels, 3).strangeness(queries)
    expected = dense(features, labels, 3, queries).float()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_how_bright_features_are_does_not_count() -> None:
    features, labels = support_set([3, 3])
    detector = NoveltyDetector(features, labels, 2)
    queries = torch.randn(4, 12)
    torch.testing.assert_close(detector.strangeness(queries), detector.strangeness(9 * queries))


def test_left_out_is_the_distance_to_the_others() -> None:
    features, labels = support_set([3, 1, 4, 2])
    support_strangeness = torch.tensor(left_out(features, labels))
    for n in range(len(labels)):
        if n == 3:  # alone
            assert math.isnan(support_strangeness[n])
            continue
        others = torch.arange(len(labels)) != n
        expected = dense(
            features[others], labels[others], 4, features[n : n + 1], torch.bincount(labels)
        )
        torch.testing.assert_close(
            support_strangeness[n : n + 1], expected.float(), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize(("shots", "reject"), [([4, 4], 0.05), ([10, 10], 0.1), ([10, 10], 0.3)])
def test_the_share_asked_for_is_lost(shots: list[int], reject: float) -> None:
    lost, spread = [], []
    for _ in range(100):
        features, labels = support_set([n + 20 for n in shots])
        place = torch.cat([torch.arange(n + 20) < n for n in shots])
        own = NoveltyDetector(features[place], labels[place], 2).strangeness(features[~place])
        known = left_out(features[place], labels[place])
        lost.append(float((own > threshold(known, reject)).float().mean()))
        spread.append(float((own > threshold(known, reject / 4)).float().mean()))
    assert 0.4 * reject < sum(lost) / len(lost) < 1.3 * reject
    assert sum(spread) < sum(lost)


def test_a_rare_class_keeps_its_photos() -> None:
    """Of 40 and 2 photos, those of the rare class are not called unknown for being few."""
    lost = []
    for _ in range(60):
        features, labels = support_set([60, 22], width=64)
        place = torch.cat([torch.arange(60) < 40, torch.arange(22) < 2])
        detector = NoveltyDetector(features[place], labels[place], 2)
        own = detector.strangeness(features[~place][20:])
        known = left_out(features[place], labels[place])
        lost.append(float((own > threshold(known, 0.05)).float().mean()))
    assert sum(lost) / len(lost) < 0.15


def test_where_photos_are_enough_it_is_their_quantile() -> None:
    known = torch.arange(1.0, 21.0).flip(0).tolist()
    for reject, rank in ((0.5, 10.5), (0.25, 15.75), (0.95, 1.05), (0.999, 1.0)):
        assert threshold(known, reject) == pytest.approx(rank)
    assert threshold(known, 0.049) < threshold(known, 0.02) < threshold(known, 0.001)
    assert threshold(known, 0.01) > 20


def test_few_photos_give_a_threshold_above_them_all() -> None:
    known = left_out(*support_set([5, 5]))
    assert max(known) < threshold(known, 0.05) < 10 * max(known)


def test_where_nothing_is_known_nobody_is_a_stranger() -> None:
    assert threshold(left_out(*support_set([1, 1, 1])), 0.05) == math.inf
    assert threshold(left_out(*support_set([3, 3])), 0) == math.inf


def test_a_photo_many_times_over_is_no_stranger() -> None:
    features = torch.rand(2, 12).repeat_interleave(4, 0)
    labels = torch.tensor([0] * 4 + [1] * 4)
    own = NoveltyDetector(features, labels, 2).strangeness(features)
    assert bool((own < threshold(left_out(features, labels), 0.05)).all())


@pytest.mark.parametrize("reject", [1.0, -0.01, 5.0, math.nan])
def test_no_share(reject: float) -> None:
    with pytest.raises(UsageError, match=r"--reject .*from 0 to below 1"):
        threshold([1.0, 2.0], reject)


@pytest.mark.parametrize(
    ("p", "freedom", "expected"),
    [
        (0.95, 1, 6.3138),
        (0.95, 2, 2.9200),
        (0.95, 3, 2.3534),
        (0.95, 9, 1.8331),
        (0.95, 100, 1.6602),
        (0.975, 5, 2.5706),
        (0.99, 3, 4.5407),
        (0.8, 4, 0.9410),
        (0.5, 7, 0.0),
        (0.2, 4, -0.9410),
    ],
)
def test_quantiles_are_those_of_the_tables(p: float, freedom: int, expected: float) -> None:
    assert student_quantile(p, freedom) == pytest.approx(expected, rel=0.01, abs=1e-9)
