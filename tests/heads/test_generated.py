"""The head of CNAPs: a linear layer generated from class means."""

from __future__ import annotations

import pytest
import torch

from fewshot_lite.heads.generated import GeneratedLinearHead

LABELS = torch.tensor([2, 0, 1, 1, 2, 2])


@pytest.fixture
def head() -> GeneratedLinearHead:
    torch.manual_seed(0)
    return GeneratedLinearHead(4).double()


def test_weights_and_biases_are_those_of_the_class_means(head: GeneratedLinearHead) -> None:
    features, queries = torch.randn(6, 4).double(), torch.randn(5, 4).double()
    got = head.logits(head.fit(features, LABELS, 3), queries)
    for k in range(3):
        mean = features[k == LABELS].mean(0)
        by_hand = queries @ (mean + head.weight(mean)) + head.bias(mean)
        torch.testing.assert_close(got[:, k], 0.1 * by_hand)


def test_a_class_does_not_depend_on_the_others(head: GeneratedLinearHead) -> None:
    """Any number of classes is served, in any order, each by its own mean."""
    features = torch.randn(6, 4).double()
    three = head.fit(features, LABELS, 3)
    kept = LABELS != 2
    two = head.fit(features[kept], 1 - LABELS[kept], 2)  # classes 1 and 0
    torch.testing.assert_close(two["weight"], three["weight"][[1, 0]])
    torch.testing.assert_close(two["bias"], three["bias"][[1, 0]])


def test_it_begins_close_to_class_means(head: GeneratedLinearHead) -> None:
    features = torch.randn(6, 4).double()
    statistics = head.fit(features, LABELS, 3)
    means = torch.stack([features[k == LABELS].mean(0) for k in range(3)])
    assert (statistics["weight"] - means).norm() < 0.5 * means.norm()


def test_half_precision_features_are_summed_in_float32() -> None:
    head = GeneratedLinearHead(4)
    statistics = head.fit(torch.randn(6, 4).bfloat16(), LABELS, 3)
    assert statistics["weight"].dtype == torch.float32
    assert head.logits(statistics, torch.randn(2, 4).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("labels", [[0, 0, 2, 2, 2, 2], [0, 1, 2, 3, 3, 3]])
def test_a_class_without_images_or_beyond_the_number_is_refused(
    head: GeneratedLinearHead, labels: list[int]
) -> None:
    with pytest.raises(ValueError, match="needs a support image"):
        head.fit(torch.randn(6, 4).double(), torch.tensor(labels), 3)


def test_generators_have_the_published_numbers_of_parameters() -> None:
    """Requeima et al.'s code: d → d → d → d for weights, d → 1 → 1 → 1 for biases."""
    head = GeneratedLinearHead(512, fixed_temperature=True)
    assert sum(p.numel() for p in head.bias.parameters()) == 517
    assert sum(p.numel() for p in head.weight.parameters()) == 3 * (512 * 512 + 512)
    assert sum(p.numel() for p in head.parameters()) == 517 + 3 * (512 * 512 + 512)
    assert float(head.log_temperature.exp()) == 1
