"""Class means, Euclidean and cosine."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fewshot_lite.core.config import Metric
from fewshot_lite.heads.prototypes import PrototypeHead

METRICS = pytest.mark.parametrize("metric", ["euclidean", "cosine"])
LABELS = torch.tensor([2, 0, 1, 0, 2, 2])


def random_features() -> tuple[Tensor, Tensor]:
    """Support (6, 5) and query (4, 5) features."""
    return torch.randn(6, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)


def plain_logits(metric: Metric, features: Tensor, queries: Tensor, temperature: float) -> Tensor:
    rows = []
    for q in queries:
        row = []
        for k in range(3):
            own = features[k == LABELS]
            if metric == "euclidean":
                row.append(-temperature * ((q - own.mean(0)) ** 2).sum())
            else:
                mean = torch.stack([f / f.norm() for f in own]).mean(0)
                row.append(temperature * torch.dot(q, mean) / (q.norm() * mean.norm()))
        rows.append(torch.stack(row))
    return torch.stack(rows)


@METRICS
def test_logits_are_those_of_the_plain_formula(metric: Metric) -> None:
    features, queries = random_features()
    head = PrototypeHead(metric).double()
    torch.nn.init.constant_(head.log_temperature, 0.7)
    logits = head.logits(head.fit(features, LABELS, 3), queries)
    exact = plain_logits(metric, features, queries, float(head.log_temperature.detach().exp()))
    torch.testing.assert_close(logits, exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("features", "labels", "means"),
    [
        ([[0, 0], [1, 1]], [0, 0], [[0.5, 0.5]]),
        ([[0, 0], [1, 1]], [0, 1], [[0, 0], [1, 1]]),
        ([[0, 0], [1, 1]], [1, 0], [[1, 1], [0, 0]]),
    ],
)
def test_class_means_are_easyfsls(
    features: list[list[float]], labels: list[int], means: list[list[float]]
) -> None:
    """The cases of its `test_compute_prototypes_returns_correct_prototypes`."""
    fitted = PrototypeHead().fit(torch.tensor(features), torch.tensor(labels), len(means))
    assert fitted["means"].tolist() == means


def test_logits_are_squares_of_easyfsls_scores() -> None:
    """What its `PrototypicalNetworks` (1.5.0) answers: minus distances, not squared."""
    support = torch.tensor([[1.0, 2, 0], [3, -1, 2], [0, 0, 5], [2, 2, 2], [-1, 4, 1]])
    queries = torch.tensor([[1.0, 1, 1], [0, -2, 4]])
    scores = torch.tensor([[-1.58113885, -0.99999994], [-3.39116502, -4.54606056]])
    head = PrototypeHead(temperature=1.0)
    found = head.logits(head.fit(support, torch.tensor([0, 1, 0, 1, 1]), 2), queries)
    torch.testing.assert_close(found, -scores.square())


@METRICS
def test_gradients_are_those_of_finite_differences(metric: Metric) -> None:
    features, queries = (x.requires_grad_() for x in random_features())
    head = PrototypeHead(metric).double()
    assert torch.autograd.gradcheck(
        lambda support, query, _: head.logits(head.fit(support, LABELS, 3), query),
        (features, queries, head.log_temperature),
    )


@METRICS
@pytest.mark.parametrize("zero", ["support", "query"])
def test_a_feature_vector_of_zeros_is_no_trouble(metric: Metric, zero: str) -> None:
    features, queries = random_features()
    if zero == "support":
        features[LABELS == 0] = 0
    else:
        queries[0] = 0
    features.requires_grad_()
    queries.requires_grad_()
    head = PrototypeHead(metric).double()
    logits = head.logits(head.fit(features, LABELS, 3), queries)
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert queries.grad is not None
    assert queries.grad.isfinite().all()


@METRICS
@pytest.mark.parametrize("offset", [0, 1000])
def test_float32_is_close_even_far_from_the_origin(metric: Metric, offset: float) -> None:
    features, queries = (x + offset for x in random_features())
    head = PrototypeHead(metric).double()
    exact = head.logits(head.fit(features, LABELS, 3), queries)
    head = head.float()
    logits = head.logits(head.fit(features.float(), LABELS, 3), queries.float())
    torch.testing.assert_close(logits.double(), exact, rtol=1e-3, atol=1e-5)


def test_no_distance_is_negative_by_rounding() -> None:
    features = torch.rand(20, 64)
    head = PrototypeHead("euclidean")
    logits = head.logits(head.fit(features, torch.arange(20), 20), features)
    assert not (logits > 0).any()


@METRICS
def test_half_precision_features_are_computed_with_in_float32(metric: Metric) -> None:
    features, queries = (x.to(torch.bfloat16) for x in random_features())
    head = PrototypeHead(metric)
    logits = head.logits(head.fit(features, LABELS, 3), queries)
    exact = head.logits(head.fit(features.float(), LABELS, 3), queries.float())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, exact, rtol=0, atol=0)


@pytest.mark.parametrize("labels", [[0, 0, 2, 2], [0, 1, 2, 3]], ids=["missing", "too many"])
def test_every_class_needs_a_support_image(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="every one of the 3 classes"):
        PrototypeHead().fit(torch.randn(4, 5), torch.tensor(labels), 3)
