"""The head in the rank of the data gives what the dense formula gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewshot_lite.heads.features import root_features
from fewshot_lite.heads.mahalanobis import MahalanobisHead

SHOTS = {
    "balanced": [3, 3, 3],
    "unbalanced": [1, 2, 7, 3],
    "one image each": [1, 1, 1, 1],
    "two images": [1, 1],
    "one class": [4],
    "one image": [1],
}
SUPPORTS = pytest.mark.parametrize("shots", SHOTS.values(), ids=SHOTS.keys())
#: Features per support image: where N is less than, equal to and more than the width d.
WIDTHS = pytest.mark.parametrize("width", [3.0, 1.0, 0.5], ids=["N<d", "N=d", "N>d"])


def dense_logits(
    features: Tensor,
    labels: Tensor,
    classes: int,
    queries: Tensor,
    beta: Tensor,
    temperature: Tensor,
) -> Tensor:
    """The module's formula, read aloud."""
    identity = torch.eye(features.shape[1], dtype=features.dtype)

    def covariance(x: Tensor) -> Tensor:
        if len(x) == 1:
            return torch.zeros_like(identity)
        centred = x - x.mean(0)
        return centred.T @ centred / (len(x) - 1)

    columns = []
    for k in range(classes):
        own = features[labels == k]
        weight = len(own) / (len(own) + 1)
        q_k = weight * covariance(own) + (1 - weight) * covariance(features) + beta * identity
        offset = queries - own.mean(0)
        distances = torch.einsum("qi,ij,qj->q", offset, torch.linalg.inv(q_k), offset)
        columns.append(-temperature * distances)
    return torch.stack(columns, dim=1)


def random_support(shots: list[int], width: float) -> tuple[Tensor, Tensor, Tensor]:
    """Support features (N, d), labels (N,) and query features (6, d), not centred at 0."""
    labels = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))
    d = max(1, int(width * len(labels)))
    centres = 2 * torch.randn(len(shots), d, dtype=torch.float64) + 3
    features = centres[labels] + torch.randn(len(labels), d, dtype=torch.float64)
    queries = torch.randn(6, d, dtype=torch.float64) + 3
    return features, labels, queries


@SUPPORTS
@WIDTHS
@pytest.mark.parametrize("beta", [1.0, 0.2])
def test_logits_are_those_of_the_dense_formula(shots: list[int], width: float, beta: float) -> None:
    features, labels, queries = random_support(shots, width)
    head = MahalanobisHead(beta, temperature=0.3).double()
    logits = head.logits(head.fit(features, labels, len(shots)), queries)
    exact = dense_logits(
        features, labels, len(shots), queries, head.beta, head.log_temperature.exp()
    )
    torch.testing.assert_close(logits, exact, rtol=1e-8, atol=1e-8)


@SUPPORTS
@WIDTHS
def test_gradients_are_those_of_the_dense_formula(shots: list[int], width: float) -> None:
    features, labels, queries = random_support(shots, width)
    features.requires_grad_()
    queries.requires_grad_()
    head = MahalanobisHead(beta=0.5, temperature=0.3).double()
    inputs = (features, queries, head.log_beta, head.log_temperature)
    weights = torch.randn(len(queries), len(shots), dtype=torch.float64)
    logits = head.logits(head.fit(features, labels, len(shots)), queries)
    beta, temperature = head.log_beta.exp(), head.log_temperature.exp()
    exact = dense_logits(features, labels, len(shots), queries, beta, temperature)
    got = torch.autograd.grad((weights * logits).sum(), inputs)
    wanted = torch.autograd.grad((weights * exact).sum(), inputs)
    for a, b in zip(got, wanted, strict=True):
        assert b.abs().max() > 0
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@WIDTHS
def test_the_order_of_the_support_images_does_not_matter(width: float) -> None:
    features, labels, queries = random_support([1, 2, 7, 3], width)
    head = MahalanobisHead().double()
    order = torch.randperm(len(labels))
    assert labels[order].tolist() != labels.tolist()
    logits = head.logits(head.fit(features, labels, 4), queries)
    shuffled = head.logits(head.fit(features[order], labels[order], 4), queries)
    torch.testing.assert_close(shuffled, logits, rtol=1e-10, atol=1e-10)


def test_the_nearest_class_has_the_largest_logit() -> None:
    features, labels, _ = random_support([5, 5, 5], width=3.0)
    head = MahalanobisHead().double()
    logits = head.logits(head.fit(features, labels, 3), features)
    assert logits.argmax(1).tolist() == labels.tolist()


@WIDTHS
def test_what_is_kept_has_the_rank_of_the_data(width: float) -> None:
    features, labels, _ = random_support([1, 2, 7, 3, 3], width)
    statistics = MahalanobisHead().double().fit(features, labels, 5)
    rows = {name: len(value) for name, value in statistics.items() if value.ndim == 2}
    shared = dict.fromkeys(("shared.1", "shared.2", "shared.3", "shared.7"), min(features.shape))
    assert rows == {"means": 5, "own": 2 + 7 + 3 + 3, **shared}


@pytest.mark.parametrize("labels", [[0, 0, 2, 2], [0, 1, 2, 3]], ids=["missing", "too many"])
def test_every_class_needs_a_support_image(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="every one of the 3 classes"):
        MahalanobisHead().fit(torch.randn(4, 5), torch.tensor(labels), 3)


@SUPPORTS
@WIDTHS
def test_float32_is_close(shots: list[int], width: float) -> None:
    features, labels, queries = random_support(shots, width)
    head = MahalanobisHead().double()
    exact = head.logits(head.fit(features, labels, len(shots)), queries)
    head = head.float()
    logits = head.logits(head.fit(features.float(), labels, len(shots)), queries.float())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), exact, rtol=1e-3, atol=1e-5)


def test_half_precision_features_are_computed_with_in_float32() -> None:
    features, labels, queries = (x.to(torch.bfloat16) for x in random_support([2, 3], width=3.0))
    head = MahalanobisHead()
    logits = head.logits(head.fit(features, labels.long(), 2), queries)
    exact = head.logits(head.fit(features.float(), labels.long(), 2), queries.float())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, exact, rtol=0, atol=0)


def test_root_features_are_measured_like_any_others() -> None:
    features, labels, queries = random_support([1, 2, 7, 3], width=3.0)
    rooted, plain = MahalanobisHead(root=True).double(), MahalanobisHead().double()
    logits = rooted.logits(rooted.fit(features, labels, 4), queries)
    exact = plain.logits(plain.fit(root_features(features), labels, 4), root_features(queries))
    torch.testing.assert_close(logits, exact, rtol=0, atol=0)


def test_root_features_are_signed_roots_of_one_length() -> None:
    features = torch.tensor([[4.0, -4.0, 1.0, 0.0]], dtype=torch.float64)
    roots = root_features(features)
    torch.testing.assert_close(roots.norm(dim=1), torch.tensor([10.0], dtype=torch.float64))
    expected = features.new_tensor([2, -2, 1, 0])
    torch.testing.assert_close(roots[0] / roots[0, 2], expected, rtol=0.02, atol=0)


def test_root_features_of_nothing_are_finite_with_finite_gradients() -> None:
    features = torch.zeros(2, 4, requires_grad=True)
    roots = root_features(features)
    roots.sum().backward()
    assert roots.isfinite().all()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_a_fixed_temperature_is_the_papers_and_nothing_is_learned() -> None:
    head = MahalanobisHead(fixed_temperature=True)
    assert list(head.parameters()) == []
    assert (float(head.log_temperature.exp()), float(head.beta)) == (1, 1)
    assert set(head.state_dict()) == set(MahalanobisHead().state_dict())
