"""Ridge regression: the optimum of its loss, whichever of the two systems is solved."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_lite.heads.ridge import RidgeHead

SHOTS = [1, 2, 7, 3]
LABELS = torch.arange(4).repeat_interleave(torch.tensor(SHOTS))


def support(width: int) -> Tensor:
    centres = torch.randn(4, width, dtype=torch.float64)
    return centres[LABELS] + torch.randn(len(LABELS), width, dtype=torch.float64) + 2


@pytest.mark.parametrize("width", [40, 13, 5], ids=["N<d", "N=d", "N>d"])
def test_the_penalised_squares_have_no_slope_at_the_fit(width: int) -> None:
    features = support(width)
    head = RidgeHead(strength=0.7, root=False).double()
    fitted = head.fit(features, LABELS, 4)
    x = F.normalize(features, dim=1)
    weight = fitted["weight"].detach().requires_grad_()
    bias = fitted["bias"].detach().requires_grad_()
    errors = (F.one_hot(LABELS, 4) - F.linear(x, weight, bias)).square().sum(1)
    class_weights = len(x) / (4 * torch.tensor(SHOTS, dtype=x.dtype))[LABELS]
    ((class_weights * errors).sum() + 0.7 * weight.square().sum()).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert float(weight.grad.abs().max()) < 1e-7  # 0.7 is stored as its logarithm, in float32
    assert float(bias.grad.abs().max()) < 1e-9


def test_a_class_of_many_photos_weighs_as_much_as_one_of_few() -> None:
    one, other = torch.randn(2, 3, 30)
    few = torch.cat([one, other])
    many = torch.cat([one, *[other] * 20])
    queries = torch.randn(5, 30)
    answers = []
    for features, count in ((few, 3), (many, 60)):
        labels = torch.tensor([0] * 3 + [1] * count)
        head = RidgeHead(strength=0.1 * len(labels))  # the same share of the sum over photos
        answers.append(head.logits(head.fit(features, labels, 2), queries))
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("root", [True, False])
def test_the_length_of_features_and_the_order_of_photos_do_not_matter(root: bool) -> None:
    features, queries = support(20).float(), torch.randn(6, 20)
    head = RidgeHead(root=root)
    order = torch.randperm(len(LABELS))
    expected = head.logits(head.fit(features, LABELS, 4), queries)
    got = head.logits(head.fit(features[order], LABELS[order], 4), queries)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    if not root:
        got = head.logits(head.fit(9 * features, LABELS, 4), 9 * queries)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_photos_that_are_all_alike_are_no_error() -> None:
    head = RidgeHead()
    fitted = head.fit(torch.ones(4, 6), torch.tensor([0, 0, 1, 1]), 2)
    logits = head.logits(fitted, torch.ones(1, 6))
    torch.testing.assert_close(logits[0, 0], logits[0, 1])


def test_features_that_are_not_finite_show_in_the_fit() -> None:
    features = support(5).float()
    features[3, 2] = torch.nan
    assert not bool(RidgeHead().fit(features, LABELS, 4)["weight"].isfinite().all())


def test_a_class_without_photos_is_refused() -> None:
    with pytest.raises(ValueError, match="every one of the 5 classes"):
        RidgeHead().fit(support(5), LABELS, 5)
