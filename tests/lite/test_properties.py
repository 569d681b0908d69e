"""What holds for every sampler at any N and H: weighted sums are those over all, on average."""

from __future__ import annotations

import itertools
from math import comb

import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from fewshot_lite.lite import sampling
from properties import PROPERTY

NUMBERS = st.integers(1, 24)
SEEDS = st.integers(0, 10**6)


def vectors(number: int, seed: int, zeros: float = 0.0) -> torch.Tensor:
    """(N, 3), of very different lengths, some of them zero."""
    torch.manual_seed(seed)
    v = torch.randn(number, 3, dtype=torch.float64) * torch.randn(number, 1).exp()
    return v * (torch.rand(number, 1) >= zeros)


@PROPERTY
@given(number=NUMBERS, h=st.integers(1, 30), seed=SEEDS, zeros=st.sampled_from([0.0, 0.5, 1.0]))
def test_draws_are_different_images_with_weights_of_at_least_one(
    number: int, h: int, seed: int, zeros: float
) -> None:
    v, generator = vectors(number, seed, zeros), torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 3
    for chosen in (
        sampling.uniform(number, h, generator),
        sampling.informed(v, labels, h, generator),
        sampling.balanced(v, h, generator),
    ):
        taken = chosen.indices.tolist()
        assert len(set(taken)) == len(taken) == len(chosen.weights)
        assert len(taken) <= max(h, 1) or len(taken) == number
        assert set(taken) <= set(range(number))
        assert bool((chosen.weights >= 1 - 1e-12).all())


@PROPERTY
@given(number=st.integers(1, 12), h=st.integers(1, 12), seed=SEEDS)
def test_informed_sums_are_exact_on_average(number: int, h: int, seed: int) -> None:
    """Over the start of systematic sampling, uniform in [0, 1): exactly, between its steps."""
    assume(h < number)
    v = vectors(number, seed)
    probabilities = sampling.inclusion_probabilities(v.norm(dim=1), h)
    assert probabilities is not None
    assert abs(float(probabilities.sum()) - h) < 1e-9
    steps = torch.cat([probabilities.cumsum(0) % 1, torch.tensor([0.0, 1.0]).double()]).unique()
    mean = torch.zeros(3, dtype=torch.float64)
    for low, high in itertools.pairwise(steps.tolist()):
        chosen = sampling.systematic(probabilities, (low + high) / 2)
        mean += (high - low) * (chosen.weights[:, None] * v[chosen.indices]).sum(0)
    torch.testing.assert_close(mean, v.sum(0), rtol=1e-7, atol=1e-7)


@PROPERTY
@given(number=st.integers(2, 7), h=st.integers(1, 6), seed=SEEDS)
def test_balanced_sums_are_exact_on_average(number: int, h: int, seed: int) -> None:
    """Over all picks of all strata, each as likely; of x_n that v_n say nothing of."""
    assume(h < number)
    v, x = vectors(number, seed), torch.randn(number, 3, 3, dtype=torch.float64)
    strata = sampling.strata_by_size(v.norm(dim=1), h)
    assert strata is not None
    assume(sum(comb(len(s.members), s.take) for s in strata) <= 60)
    sums = []
    for picks in itertools.product(
        *(itertools.combinations(s.members.tolist(), s.take) for s in strata)
    ):
        chosen = sampling.balance(v, strata, [torch.tensor(pick) for pick in picks])
        assert chosen.correction is not None
        parts = chosen.weights[:, None] * v[chosen.indices] + chosen.correction
        sums.append((x[chosen.indices] @ parts[:, :, None]).sum(0)[:, 0])
    expected = (x @ v[:, :, None]).sum(0)[:, 0]
    torch.testing.assert_close(torch.stack(sums).mean(0), expected, rtol=1e-8, atol=1e-8)
