"""Episode statistics: 1,000 sampled compositions beside the published formula, written out anew."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.published.meta_dataset.sampler import (
    Composition,
    CompositionSampler,
    EpisodeRules,
)
from fewshot_lite.published.meta_dataset.spec import DataSetSpec

EPISODES = 1000

#: Two-sample Kolmogorov-Smirnov distance that equal distributions exceed once in 1,000 times.
LARGEST_DISTANCE = 1.95 * (1 / EPISODES + 1 / 4000) ** 0.5

#: Images of each class: as birds, as a set of much larger and much smaller classes, as textures.
DATA_SETS = {
    "even": [60] * 30,
    "uneven": [int(20 * 1.12**k) for k in range(70)],
    "large": [3000] * 55,
    "small": [3, 4, 5, 6, 7, 8, 9, 10, 12, 15],
}


def spec_of(
    images: list[int], families: list[list[int]] | None = None, kind: str = ""
) -> DataSetSpec:
    return DataSetSpec(
        Path("records/things"),
        class_names={k: f"class {k}" for k in range(len(images))},
        images=dict(enumerate(images)),
        splits={"TEST": range(len(images))},
        kind=kind or "plain",  # type: ignore[arg-type]
        families=families and {"TEST": tuple(map(tuple, families))},
    )


def random(*numbers: int) -> torch.Generator:
    return generator(numbers[0], Stream.META_DATASET_TASKS, *numbers[1:])


def drawn(spec: DataSetSpec, rules: EpisodeRules | None = None) -> list[Composition]:
    sampler = CompositionSampler(spec, "TEST", rules)
    return [sampler.sample(random(0, number)) for number in range(EPISODES)]


def published(images: list[int], episodes: int = 4000) -> list[tuple[npt.NDArray[np.int64], int]]:
    """Shots and queries by sample_episode_description, num_ways = num_support = None, in NumPy."""
    random = np.random.default_rng(1)
    sizes = np.array(images)
    found = []
    for _ in range(episodes):
        way = random.integers(5, min(50, len(sizes)) + 1)
        n = random.choice(sizes, way, replace=False)
        queries = min(10, (n // 2).min())
        left = n - queries
        beta = random.uniform()
        total = min(np.floor(beta * np.minimum(100, left) + 1).sum(), 500)
        weights = n * np.exp(random.uniform(np.log(0.5), np.log(2), way))
        shots = np.floor(weights / weights.sum() * (total - way)).astype(int) + 1
        found.append((np.minimum(shots, left), int(queries)))
    return found


def distance(ours: list[float], theirs: list[float]) -> float:
    """Largest difference of the two cumulative distributions."""
    values = np.unique([*ours, *theirs])
    shares = [
        np.searchsorted(np.sort(side), values, side="right") / len(side) for side in (ours, theirs)
    ]
    return float(np.abs(shares[0] - shares[1]).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA_SETS)
def test_way_support_shots_and_queries_are_distributed_as_published(name: str) -> None:
    images = DATA_SETS[name]
    ours = [(np.array(c.shots), c.queries) for c in drawn(spec_of(images))]
    theirs = published(images)
    for statistic in (
        lambda shots, _: len(shots),
        lambda shots, _: shots.sum(),
        lambda shots, _: shots.max(),
        lambda shots, _: shots.min(),
        lambda shots, _: shots.max() / shots.mean(),
        lambda shots, _: shots[0],
        lambda _, queries: queries,
    ):
        both = [[float(statistic(*one)) for one in side] for side in (ours, theirs)]
        assert distance(*both) < LARGEST_DISTANCE
        error = np.std(both[1]) * (1 / EPISODES + 1 / 4000) ** 0.5
        assert abs(np.mean(both[0]) - np.mean(both[1])) <= 4 * error


def test_the_way_is_uniform_from_5_to_50() -> None:
    ways = [len(c.classes) for c in drawn(spec_of(DATA_SETS["large"]))]
    assert set(ways) == set(range(5, 51))
    assert np.mean(ways) == pytest.approx(27.5, abs=4 * 13.28 / EPISODES**0.5)


def test_the_way_ends_at_the_number_of_classes() -> None:
    assert {len(c.classes) for c in drawn(spec_of(DATA_SETS["even"]))} == set(range(5, 31))


def test_support_size_has_its_expected_value() -> None:
    """With 50 to 50 ways of large classes: E min(500, 50 (floor(100 β) + 1)) less the rounding."""
    rules = EpisodeRules(min_way=50)
    sizes = [sum(c.shots) for c in drawn(spec_of(DATA_SETS["large"]), rules)]
    expected = np.mean(np.minimum(500, 50 * (np.arange(100) + 1)))  # 477.5: β in 100 equal parts
    lost = 0.5 * 50 * 0.99  # rounding down: half an image a class, none at one image a class
    error = np.std(sizes) / EPISODES**0.5
    assert np.mean(sizes) == pytest.approx(expected - lost, abs=4 * error)


@pytest.mark.parametrize("name", DATA_SETS)
def test_nothing_exceeds_its_bound(name: str) -> None:
    images = DATA_SETS[name]
    for episode in drawn(spec_of(images)):
        way = len(episode.classes)
        chosen = [images[number] for number in episode.classes]
        assert 5 <= way == len(set(episode.classes)) == len(episode.shots) <= 50
        assert way <= sum(episode.shots) <= 500
        assert min(episode.shots) >= 1
        assert episode.queries == min(10, min(chosen) // 2) >= 1
        left = [n - episode.queries for n in chosen]
        assert all(shots <= n for shots, n in zip(episode.shots, left, strict=True))
        assert sum(episode.shots) <= sum(min(100, n) for n in left)


def test_every_class_is_drawn_equally_often() -> None:
    counts = np.bincount([n for c in drawn(spec_of([30] * 20)) for n in c.classes], minlength=20)
    share = 12.5 / 20  # the mean way is 12.5 of 20 classes
    error = (EPISODES * share * (1 - share)) ** 0.5
    assert np.abs(counts - EPISODES * share).max() < 5 * error


def test_an_alphabet_is_drawn_first_and_classes_within_it() -> None:
    sizes = [20, 26, 47, 60]  # Omniglot's smallest and larger ones, and one beyond 50
    starts = np.cumsum([0, *sizes])
    families = [list(range(a, b)) for a, b in pairwise(starts)]
    episodes = drawn(spec_of([20] * sum(sizes), families, "two-level"))
    found: dict[int, list[int]] = {k: [] for k in range(4)}
    for episode in episodes:
        homes = {int(np.searchsorted(starts, n, side="right")) - 1 for n in episode.classes}
        assert len(homes) == 1
        assert episode.queries == 10
        found[homes.pop()].append(len(episode.classes))
    for size, ways in zip(sizes, found.values(), strict=True):
        assert len(ways) == pytest.approx(250, abs=4 * (EPISODES * 3 / 16) ** 0.5)
        low, high = 5, min(50, size)
        error = (high - low + 1) / 12**0.5 / len(ways) ** 0.5
        assert np.mean(ways) == pytest.approx((low + high) / 2, abs=4 * error)


def test_a_node_is_drawn_first_and_all_its_leaves_or_50() -> None:
    families = [list(range(400)), list(range(100, 160)), list(range(100, 107)), list(range(4))]
    episodes = drawn(spec_of([40] * 400, families, "hierarchy"))
    ways = [len(episode.classes) for episode in episodes]
    assert set(ways) == {50, 7}  # 400 leaves are too many, and 4 too few
    assert ways.count(7) == pytest.approx(500, abs=4 * 250**0.5)
    assert {n for e in episodes for n in e.classes} == set(range(100, 160))
    assert all(set(e.classes) == set(range(100, 107)) for e in episodes if len(e.classes) == 7)


def test_classes_with_one_image_are_left_out() -> None:
    sampler = CompositionSampler(spec_of([1, 5, 5, 0, 5, 5, 5]), "TEST")
    assert sampler.too_small == 2
    assert set(sampler.sample(random(0)).classes) == {1, 2, 4, 5, 6}


def test_too_few_classes_name_the_data_set() -> None:
    with pytest.raises(FewshotError, match=r"things: its TEST split has 4 classes .* tasks of 5"):
        CompositionSampler(spec_of([9] * 4), "TEST")


def test_the_same_numbers_give_the_same_composition() -> None:
    sampler = CompositionSampler(spec_of(DATA_SETS["uneven"]), "TEST")
    assert sampler.sample(random(3, 4)) == sampler.sample(random(3, 4))
    assert len({sampler.sample(random(3, k)) for k in range(20)}) == 20
