"""The heads in NumPy give the logits that torch's give."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fewshot_lite.heads.adapted import AdaptedHead
from fewshot_lite.heads.base import Head, SupportSet
from fewshot_lite.heads.calibrated import CalibratedHead, as_array_head, calibrate
from fewshot_lite.heads.choice import as_torch_head
from fewshot_lite.heads.defaults import default_head
from fewshot_lite.heads.in_numpy import fit_head, inverse_of_lower
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.registry import NAMED_HEADS
from fewshot_lite.heads.ridge import RidgeHead

WIDTH = 24


def default_of(head: Head) -> Head:
    return as_torch_head(default_head(as_array_head(head)))


HEADS: dict[str, Callable[[], Head]] = {
    "mahalanobis": lambda: MahalanobisHead(2.0, 0.3),
    "root": lambda: MahalanobisHead(0.7, 0.18, root=True),
    "published": lambda: MahalanobisHead(fixed_temperature=True),
    "ridge": RidgeHead,
    "ridge, features as they are": lambda: RidgeHead(0.3, 5.0, root=False),
    "cosine": NAMED_HEADS["cosine"],
    "euclidean": PrototypeHead,
    "default": lambda: default_of(NAMED_HEADS["mahalanobis-root"]()),
    "calibrated": lambda: CalibratedHead(RidgeHead(), 1.4, 0.6),
    "adapted": lambda: AdaptedHead.of(torch.randn(4, WIDTH), torch.randn(4), 1.7),
    "adapted to directions": lambda: AdaptedHead.of(
        torch.randn(4, WIDTH), torch.randn(4), 9.0, normalised=True
    ),
}


def support(shots: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    labels = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))
    labels = labels[torch.randperm(len(labels))]
    return torch.randn(len(shots), WIDTH)[labels] + torch.randn(len(labels), WIDTH), labels


def in_numpy(head: Head, features: Tensor, labels: Tensor, classes: int, q: Tensor) -> Tensor:
    state = {name: value.numpy() for name, value in head.state_dict().items()}
    logits = fit_head(head.describe(), state, (features.numpy(), labels.numpy(), classes))
    return torch.from_numpy(logits(q.numpy()))


@pytest.mark.parametrize("shots", [(3, 1, 2, 3), (1, 1, 1, 1), (20, 4, 9, 4)])  # N below d, above
@pytest.mark.parametrize("kind", HEADS)
def test_logits(kind: str, shots: tuple[int, ...]) -> None:
    features, labels = support(shots)
    queries = torch.randn(7, WIDTH)
    head = HEADS[kind]().requires_grad_(False)
    expected = head.logits(head.fit(features, labels, 4), queries)
    found = in_numpy(head, features, labels, 4, queries)
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-4)


def test_two_images_and_a_calibrated_mean() -> None:
    features, labels = support((4, 2))
    head = calibrate(default_of(MahalanobisHead(root=True)), SupportSet(features, labels, 2))
    for kept in (torch.arange(6), torch.stack([(labels == k).nonzero()[0, 0] for k in (0, 1)])):
        expected = head.logits(head.fit(features[kept], labels[kept], 2), features)
        found = in_numpy(head, features[kept], labels[kept], 2, features)
        torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-4)


_RIDGES = {
    f"heads.{number}.{name}": 0.0
    for number in range(17)
    for name in ("log_strength", "log_temperature")
}


@pytest.mark.parametrize(
    ("description", "state"),
    [
        ({"name": "ridge", "root": True}, {"log_strength": 0.0}),
        ({"name": "ridge", "root": True}, {"log_strength": 0.0, "log_temperature": np.nan}),
        ({"name": "ridge", "root": 3}, {"log_strength": 0.0, "log_temperature": 0.0}),
        ({"name": "ridge", "other": 3}, {"log_strength": 0.0, "log_temperature": 0.0}),
        ({"name": "prototypes", "metric": "none"}, {"log_temperature": 0.0}),
        ({"name": "prototypes"}, {"log_temperature": 0.0, "more": 0.0}),
        ({"name": "prototypes"}, {"log_temperature": [0.0]}),
        ({"name": "mean", "heads": []}, {}),
        ({"name": "mean", "heads": [{"name": "ridge"}] * 17}, _RIDGES),
        ({"name": "mean", "heads": [{"name": "mean", "heads": [{"name": "ridge"}]}]}, {}),
        ({"name": "generated-linear"}, {}),
        ({}, {}),
    ],
)
def test_what_torch_would_refuse_or_has_no_form_here_is_refused(
    description: dict[str, object], state: dict[str, object]
) -> None:
    features, labels = support((2, 2))
    arrays = {name: np.array(value, np.float32) for name, value in state.items()}
    with pytest.raises((KeyError, TypeError, ValueError)):
        fit_head(description, arrays, (features.numpy(), labels.numpy(), 2))


@pytest.mark.parametrize("rows", [1, 64, 65, 200])
def test_a_triangle_is_inverted_by_halves(rows: int) -> None:
    x = np.random.default_rng(rows).normal(size=(rows, rows))
    factor = np.linalg.cholesky(x @ x.T / rows + np.eye(rows))
    found = inverse_of_lower(factor)
    np.testing.assert_allclose(found @ factor, np.eye(rows), atol=1e-12)
    assert (found == np.tril(found)).all()
