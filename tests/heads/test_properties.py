"""What holds for every head at any way, shots and width: N below and above d, classes of one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fewshot_lite.heads.base import Head, SupportSet
from fewshot_lite.heads.calibrated import as_array_head, calibrate
from fewshot_lite.heads.choice import as_torch_head
from fewshot_lite.heads.defaults import default_head
from fewshot_lite.heads.generated import GeneratedLinearHead
from fewshot_lite.heads.in_numpy import fit_head
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.ridge import RidgeHead
from properties import PROPERTY

WIDTHS = st.integers(1, 12)
SHOTS = st.lists(st.integers(1, 5), min_size=1, max_size=6)
SEEDS = st.integers(0, 10**6)
#: Heads of features of a width.
HEADS: dict[str, Callable[[int], Head]] = {
    "mahalanobis": lambda _: MahalanobisHead(0.5, 0.3),
    "root": lambda _: MahalanobisHead(0.7, 0.18, root=True),
    "ridge": lambda _: RidgeHead(),
    "euclidean": lambda _: PrototypeHead(),
    "cosine": lambda _: PrototypeHead("cosine"),
    "generated": GeneratedLinearHead,
    "default": lambda _: as_torch_head(default_head(as_array_head(MahalanobisHead()))),
}
EVERY_HEAD = pytest.mark.parametrize("kind", HEADS)


def support_set(shots: list[int], width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features (N, d) and labels (N,) in no order."""
    torch.manual_seed(seed)
    labels = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))
    labels = labels[torch.randperm(len(labels))]
    centres = torch.randn(len(shots), width, dtype=torch.float64) + 1
    return centres[labels] + torch.randn(len(labels), width, dtype=torch.float64), labels


def logits_of(head: Head, features: Tensor, labels: Tensor, way: int, queries: Tensor) -> Tensor:
    with torch.no_grad():
        return head.logits(head.fit(features, labels, way), queries)


@EVERY_HEAD
@PROPERTY
@given(shots=SHOTS, width=WIDTHS, seed=SEEDS)
def test_orders_of_images_and_of_classes_do_not_matter(
    kind: str, shots: list[int], width: int, seed: int
) -> None:
    features, labels = support_set(shots, width, seed)
    queries = torch.randn(3, width, dtype=torch.float64)
    head = HEADS[kind](width).double()
    found = logits_of(head, features, labels, len(shots), queries)
    assert found.shape == (3, len(shots))
    assert bool(found.isfinite().all())
    order = torch.randperm(len(labels))
    again = logits_of(head, features[order], labels[order], len(shots), queries)
    torch.testing.assert_close(again, found, rtol=1e-7, atol=1e-8)
    renamed = torch.randperm(len(shots))  # class k is called renamed[k]
    other = logits_of(head, features, renamed[labels], len(shots), queries)
    torch.testing.assert_close(other[:, renamed], found, rtol=1e-7, atol=1e-8)


@EVERY_HEAD
@PROPERTY
@given(shots=SHOTS, width=WIDTHS, seed=SEEDS, views=st.integers(1, 3))
def test_leaving_a_photo_out_is_fitting_without_its_views(
    kind: str, shots: list[int], width: int, seed: int, views: int
) -> None:
    features, labels = support_set(shots, width, seed)
    photos = torch.arange(len(labels)).repeat_interleave(views)
    features = features.repeat_interleave(views, 0)
    features = features + 0.3 * torch.randn_like(features)
    labels, way = labels.repeat_interleave(views), len(shots)
    head = HEADS[kind](width).double()
    found = head.leave_one_out_logits(features, labels, way, photos)
    for photo in photos.unique().tolist():
        out = photos == photo
        if bool((labels[~out] == labels[out][0]).any()):
            expected = logits_of(head, features[~out], labels[~out], way, features[out])
            torch.testing.assert_close(found[out], expected, rtol=1e-6, atol=1e-7)
        else:
            assert bool(found[out].isnan().all())


@pytest.mark.parametrize("kind", ["mahalanobis", "root", "ridge", "euclidean", "cosine", "default"])
@PROPERTY
@given(shots=SHOTS, width=WIDTHS, seed=SEEDS)
def test_numpy_and_torch_answer_alike(kind: str, shots: list[int], width: int, seed: int) -> None:
    features, labels = (
        x.float() if x.is_floating_point() else x for x in support_set(shots, width, seed)
    )
    head = calibrate(HEADS[kind](width), SupportSet(features, labels, len(shots)))
    queries = torch.randn(3, width)
    state = {name: value.detach().numpy() for name, value in head.state_dict().items()}
    fitted = fit_head(head.describe(), state, (features.numpy(), labels.numpy(), len(shots)))
    found = torch.from_numpy(fitted(queries.numpy())).softmax(1)
    expected = logits_of(head, features, labels, len(shots), queries).double().softmax(1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
