"""Nearest neighbours: votes of the nearest, weighted, of all where there are few."""

from __future__ import annotations

import math

import torch

from fewshot_lite.heads.nearest import NearestHead


def _direction(degrees: float, length: float = 1.0) -> list[float]:
    angle = math.radians(degrees)
    return [length * math.cos(angle), length * math.sin(angle)]


def test_each_of_the_nearest_votes_by_its_cosine() -> None:
    support = torch.tensor([_direction(a, 2.0) for a in (0, 10, 20, 90, 180)])
    labels = torch.tensor([0, 1, 1, 2, 2])
    head = NearestHead(neighbours=3)
    (logits,) = head.logits(head.fit(support, labels, 3), torch.tensor([_direction(0, 9.0)]))
    cosines = [math.exp(math.cos(math.radians(a)) / 0.07) for a in (0, 10, 20)]
    torch.testing.assert_close(
        logits[:2].double(),
        torch.tensor([cosines[0], cosines[1] + cosines[2]], dtype=torch.float64).log(),
        rtol=1e-5,
        atol=1e-5,
    )
    assert logits[2] == -math.inf
    assert math.isclose(float(logits.softmax(0).sum()), 1.0, rel_tol=1e-6)


def test_one_image_a_class_is_no_tie() -> None:
    support = torch.tensor([_direction(a) for a in (0, 40, 80)])
    head = NearestHead()
    statistics = head.fit(support, torch.arange(3), 3)
    queries = torch.tensor([_direction(a) for a in (5, 35, 85)])
    assert head.logits(statistics, queries).argmax(1).tolist() == [0, 1, 2]
