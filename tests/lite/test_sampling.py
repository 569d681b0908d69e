"""Samplers: sizes, probabilities, and the cases where there is nothing to go by."""

from __future__ import annotations

import pytest
import torch

from fewshot_lite.lite import sampling


def test_uniform_draws_h_different_images_with_weight_n_over_h() -> None:
    chosen = sampling.uniform(10, 4, torch.Generator().manual_seed(0))
    assert len(set(chosen.indices.tolist())) == 4
    assert chosen.weights.tolist() == [2.5] * 4


def test_more_than_there_are_means_all() -> None:
    for chosen in (
        sampling.uniform(3, 7, torch.Generator()),
        sampling.informed(torch.ones(3, 2), torch.zeros(3), 3, torch.Generator()),
    ):
        assert chosen.indices.tolist() == [0, 1, 2]
        assert chosen.weights.tolist() == [1, 1, 1]


def test_inclusion_probabilities_are_proportional_capped_and_sum_to_h() -> None:
    probabilities = sampling.inclusion_probabilities(torch.tensor([100.0, 50, 1, 2, 3, 4]), 3)
    assert probabilities is not None
    assert probabilities[:2].tolist() == [1, 1]
    torch.testing.assert_close(
        probabilities[2:], torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    )


def test_images_without_size_are_never_drawn() -> None:
    sizes = torch.tensor([0.0, 2.0, 0.0, 5.0])
    chosen = sampling.informed(sizes[:, None], torch.zeros(len(sizes)), 3, torch.Generator())
    assert sorted(chosen.indices.tolist()) == [1, 3]
    assert chosen.weights.tolist() == [1, 1]


def test_all_sizes_zero_falls_back_to_uniform() -> None:
    chosen = sampling.informed(torch.zeros(8, 2), torch.zeros(8), 2, torch.Generator())
    assert len(chosen.indices) == 2
    assert chosen.weights.tolist() == [4, 4]


@pytest.mark.slow
def test_systematic_sampling_takes_each_image_with_its_probability() -> None:
    probabilities = sampling.inclusion_probabilities(torch.rand(12), 5)
    assert probabilities is not None
    starts = (torch.arange(20_000) + 0.5) / 20_000
    counts = torch.zeros(12, dtype=torch.float64)
    for start in starts.tolist():
        chosen = sampling.systematic(probabilities, start)
        assert len(chosen.indices) == 5
        counts[chosen.indices] += 1
    torch.testing.assert_close(counts / 20_000, probabilities, atol=2e-4, rtol=0)


def test_spread_keeps_classes_together_and_sorts_within_them() -> None:
    labels = torch.tensor([1, 0, 1, 0, 1, 0])
    v = torch.tensor([[3.0, 0], [10, 1], [1, 0], [30, 1], [2, 0], [20, 1]])
    order = sampling.spread(v, labels)
    first, second = order[:3].tolist(), order[3:].tolist()
    assert first in ([1, 5, 3], [3, 5, 1])  # 10, 20, 30 or back
    assert second in ([2, 4, 0], [0, 4, 2])


def test_a_sample_is_spread_over_classes_and_over_what_is_alike_in_them() -> None:
    """Of 4 classes of 6 alike in size, 8 of 24 are 2 of each: one of each half of its line."""
    labels = torch.arange(24) % 4
    place = torch.randperm(6)[torch.arange(24) // 4]
    angle = 0.1 * place + labels  # within a class they turn a little, at one length
    v = torch.stack([angle.cos(), angle.sin()], 1)
    random = torch.Generator().manual_seed(0)
    for _ in range(50):
        chosen = sampling.informed(v, labels, 8, random).indices
        assert torch.bincount(labels[chosen], minlength=4).tolist() == [2, 2, 2, 2]
        for k in range(4):
            low, high = sorted(place[i].item() for i in chosen if labels[i] == k)
            assert low < 3 <= high


@pytest.mark.slow
def test_informed_sampling_takes_each_image_with_its_probability_in_any_order_of_classes() -> None:
    labels = torch.tensor([2, 0, 1, 2, 1, 0, 0, 1, 2, 0])
    v = torch.randn(10, 4)
    expected = sampling.inclusion_probabilities(v.norm(dim=1), 4)
    assert expected is not None
    random = torch.Generator().manual_seed(0)
    counts = torch.zeros(10, dtype=torch.float64)
    for _ in range(4000):
        chosen = sampling.informed(v, labels, 4, random)
        torch.testing.assert_close(chosen.weights, 1 / expected[chosen.indices])
        counts[chosen.indices] += 1
    torch.testing.assert_close(counts / 4000, expected, atol=0.035, rtol=0)


def test_strata_take_about_in_proportion_to_size() -> None:
    sizes = torch.cat([torch.tensor([50.0, 0.0]), torch.linspace(1, 5, 30)])
    strata = sampling.strata_by_size(sizes, 9)
    assert strata is not None
    assert strata[0].members.tolist() == [0]  # certain
    assert sum(s.take for s in strata) == 9
    members = torch.cat([s.members for s in strata]).tolist()
    assert sorted(members) == [0, *range(2, 32)]  # each once, but for the image of no size
    rates = [s.take / len(s.members) for s in strata[1:]]
    assert rates == sorted(rates)
    assert rates[-1] > 2 * rates[0]


def test_a_balanced_sample_has_the_exact_sum() -> None:
    """So the gradient would be exact if all images had one Jacobian."""
    v = torch.randn(40, 3).double()
    for seed in range(5):
        chosen = sampling.balanced(v, 9, torch.Generator().manual_seed(seed))
        assert len(chosen.indices.unique()) == len(chosen.indices) == 9
        assert chosen.correction is not None
        total = (v[chosen.indices] * chosen.weights[:, None] + chosen.correction).sum(0)
        torch.testing.assert_close(total, v.sum(0))


def test_balanced_sampling_of_one_image_of_everything_and_of_nothing() -> None:
    v = torch.randn(6, 3)
    one = sampling.balanced(v, 1, torch.Generator())
    assert len(one.indices) == 1
    assert one.weights.tolist() == [6]
    assert one.correction is not None
    assert float(one.correction.abs().max()) == 0
    assert sampling.balanced(v, 6, torch.Generator()).weights.tolist() == [1] * 6
    nothing = sampling.balanced(torch.zeros(6, 3), 2, torch.Generator())
    assert nothing.weights.tolist() == [3, 3]
