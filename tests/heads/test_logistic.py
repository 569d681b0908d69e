"""Logistic regression: the optimum, whatever the number of images beside that of features."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fewshot_lite.heads.logistic import LogisticHead


@pytest.mark.parametrize(("number", "width"), [(6, 40), (60, 8), (3, 5)])
def test_the_penalised_loss_has_no_slope_at_the_fit(number: int, width: int) -> None:
    features, labels = 3 * torch.randn(number, width), torch.arange(number) % 3
    head = LogisticHead(c=2.0)
    fitted = head.fit(features, labels, 3)
    weight = fitted["weight"].double().requires_grad_()
    bias = fitted["bias"].double().requires_grad_()
    x = F.normalize(features.double(), dim=1)
    loss = 2.0 * F.cross_entropy(F.linear(x, weight, bias), labels, reduction="sum")
    (loss + weight.square().sum() / 2).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert float(weight.grad.abs().max()) < 1e-4
    assert float(bias.grad.abs().max()) < 1e-4
    expected = F.linear(x, weight, bias).detach().float()
    torch.testing.assert_close(head.logits(fitted, 7 * features), expected, rtol=1e-4, atol=1e-5)


def test_images_that_repeat_need_no_more_directions() -> None:
    features = torch.randn(2, 6).repeat(3, 1)
    fitted = LogisticHead().fit(features, torch.tensor([0, 1, 0, 1, 0, 1]), 2)
    assert LogisticHead().logits(fitted, features).argmax(1).tolist() == [0, 1, 0, 1, 0, 1]
