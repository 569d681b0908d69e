"""Episodes: within the ranges asked for, nothing on both sides, the same whenever drawn again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.data.episodes import (
    Episode,
    EpisodeConfig,
    Pool,
    sample_fixed_episode,
    sample_training_episode,
    usable_pools,
)
from fewshot_lite.images.folders import ImageFolder

MANY = 200  # episodes to look at


def folder_of(shots: list[int], name: str = "things", frames: int = 1) -> ImageFolder:
    """A data set that exists by name alone: class k has shots[k] tracks of some frames each."""
    files = [
        (k, Path(f"{k}/{track}_{frame}.png"))
        for k, tracks in enumerate(shots)
        for track in range(tracks)
        for frame in range(frames)
    ]
    return ImageFolder(
        name=name,
        root=Path(name),
        class_names=tuple(f"class {k}" for k in range(len(shots))),
        paths=tuple(path for _, path in files),
        labels=tuple(k for k, _ in files),
    )


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(pools: list[Pool], config: EpisodeConfig, number: int = MANY) -> list[Episode]:
    return [sample_training_episode(pools, config, seeded(seed)) for seed in range(number)]


UNEVEN = [2, 3, 5, 8, 13, 21, 34, 55]
CONFIGS = [
    EpisodeConfig(min_way=2, max_way=8, max_support=100, max_shot=20, queries=10),
    EpisodeConfig(min_way=5, max_way=5, max_support=5, max_shot=20, queries=10),
    EpisodeConfig(min_way=2, max_way=50, max_support=60, max_shot=1, queries=1),
    EpisodeConfig(min_way=8, max_way=8, max_support=9, max_shot=100, queries=1000),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_ways_shots_and_queries_are_within_the_ranges_asked_for(config: EpisodeConfig) -> None:
    for episode in drawn([Pool(folder_of(UNEVEN))], config):
        shots, queries = Counter(episode.support_labels), Counter(episode.query_labels)
        assert config.min_way <= episode.classes <= min(config.max_way, len(UNEVEN))
        assert set(shots) == set(queries) == set(range(episode.classes))
        assert len(episode.support) == len(episode.support_labels) <= config.max_support
        assert max(shots.values()) <= config.max_shot
        assert len(episode.query) == len(episode.query_labels)
        assert max(queries.values()) <= config.queries


@pytest.mark.parametrize("config", CONFIGS)
def test_no_image_is_drawn_twice_and_labels_are_of_one_class_each(config: EpisodeConfig) -> None:
    folder = folder_of(UNEVEN)
    for episode in drawn([Pool(folder)], config):
        images = episode.support + episode.query
        labels = episode.support_labels + episode.query_labels
        assert len(set(images)) == len(images)
        pairs = {(label, folder.labels[i]) for label, i in zip(labels, images, strict=True)}
        assert len(pairs) == episode.classes


def test_every_way_comes_up() -> None:
    config = EpisodeConfig(min_way=2, max_way=6)
    ways = {episode.classes for episode in drawn([Pool(folder_of([4] * 8))], config)}
    assert ways == {2, 3, 4, 5, 6}


def test_support_sets_are_large_and_small_and_uneven() -> None:
    config = EpisodeConfig(min_way=5, max_way=5, max_support=100, max_shot=20)
    episodes = drawn([Pool(folder_of([40] * 5))], config)
    sizes = [len(episode.support) for episode in episodes]
    assert min(sizes) < 20
    assert max(sizes) > 80
    assert any(len(set(Counter(e.support_labels).values())) > 1 for e in episodes)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_track_stays_on_one_side(config: EpisodeConfig) -> None:
    folder = folder_of([2, 3, 4, 5, 6, 7, 8, 9], frames=5)
    for episode in drawn([Pool(folder, tracks=True)], config):
        support = {folder.paths[i].as_posix().rpartition("_")[0] for i in episode.support}
        query = {folder.paths[i].as_posix().rpartition("_")[0] for i in episode.query}
        assert not support & query


def test_images_of_one_track_alone_make_no_class() -> None:
    folder = folder_of([1, 2, 2], frames=10)
    assert Pool(folder, tracks=True).class_names == ["class 1", "class 2"]
    assert Pool(folder).class_names == ["class 0", "class 1", "class 2"]


def test_unreadable_images_are_never_drawn() -> None:
    folder = folder_of([3, 3, 3, 2])
    pool = Pool(folder, unreadable=[0, 3, 4, 10])
    assert pool.class_names == ["class 0", "class 2"]
    for episode in drawn([pool], EpisodeConfig(min_way=2, max_way=4)):
        assert not {0, 3, 4, 10} & {*episode.support, *episode.query}


def test_all_data_sets_are_drawn_from_one_at_a_time() -> None:
    pools = [Pool(folder_of([3] * 5, "small")), Pool(folder_of([9] * 9, "large"))]
    episodes = drawn(pools, EpisodeConfig(min_way=5, max_way=9))
    shares = Counter(episode.data_set for episode in episodes)
    assert min(shares[0], shares[1]) > MANY / 3
    assert all(max(e.support + e.query) < 15 for e in episodes if e.data_set == 0)


def test_the_same_generator_draws_the_same_episode() -> None:
    pools = [Pool(folder_of(UNEVEN)), Pool(folder_of([5] * 10))]
    once, again = (drawn(pools, EpisodeConfig(), 20) for _ in range(2))
    assert once == again
    assert len({str(episode) for episode in once}) == 20


def test_too_few_classes_name_the_data_set_and_the_remedy() -> None:
    pools = [Pool(folder_of([5, 5, 1], "mugs")), Pool(folder_of([5], "keys"))]
    with pytest.raises(FewshotError, match=r"tasks of 5.*'mugs', has 2 with.*--min-way"):
        usable_pools(pools, EpisodeConfig())
    assert usable_pools(pools, EpisodeConfig(min_way=2)) == pools[:1]


@pytest.mark.parametrize(("way", "shot", "queries"), [(5, 1, 10), (8, 5, 2), (2, 20, 20)])
def test_fixed_episodes_have_exact_counts(way: int, shot: int, queries: int) -> None:
    pool = Pool(folder_of([40] * 8))
    for seed in range(20):
        episode = sample_fixed_episode(pool, way, shot, queries, seeded(seed))
        assert Counter(episode.support_labels) == dict.fromkeys(range(way), shot)
        assert Counter(episode.query_labels) == dict.fromkeys(range(way), queries)
        assert len({*episode.support, *episode.query}) == way * (shot + queries)
        assert episode == sample_fixed_episode(pool, way, shot, queries, seeded(seed))


def test_fixed_episodes_keep_tracks_on_one_side() -> None:
    folder = folder_of([6] * 5, frames=3)
    for seed in range(50):
        episode = sample_fixed_episode(Pool(folder, tracks=True), 5, 4, 4, seeded(seed))
        support = {folder.paths[i].as_posix().rpartition("_")[0] for i in episode.support}
        query = {folder.paths[i].as_posix().rpartition("_")[0] for i in episode.query}
        assert len(episode.support) == len(episode.query) == 20
        assert not support & query


def test_fixed_episodes_refuse_what_cannot_be_drawn() -> None:
    pool = Pool(folder_of([10, 3], "mugs"))
    with pytest.raises(FewshotError, match=r"mugs: 2 classes are too few for 5-way.*Lower the way"):
        sample_fixed_episode(pool, 5, 1, 1, seeded(0))
    with pytest.raises(FewshotError, match=r"mugs: class 'class 1' has too few photos for 2 sup"):
        sample_fixed_episode(pool, 2, 2, 2, seeded(0))


def test_classes_that_may_lack_images_for_fixed_tasks_are_left_out() -> None:
    pool = Pool(folder_of([9, 10, 30, 2, 11]))
    assert pool.leave_out_small(5, 5) == ["class 0", "class 3"]
    assert pool.class_names == ["class 1", "class 2", "class 4"]
    assert pool.leave_out_small(5, 5) == []
    for seed in range(MANY):
        sample_fixed_episode(pool, 3, 5, 5, seeded(seed))


@pytest.mark.parametrize("sizes", [[6, 6], [5, 5], [4, 6, 5], [1, 4, 6, 9], [1, 20, 20], [4, 4, 7]])
def test_a_class_of_tracks_is_kept_only_if_every_order_of_them_serves(sizes: list[int]) -> None:
    files = [Path(f"{k}/{t}_{f}.png") for k in "ab" for t, n in enumerate(sizes) for f in range(n)]
    folder = ImageFolder(
        name="tracks",
        root=Path("tracks"),
        class_names=("a", "b"),
        paths=tuple(files),
        labels=tuple(int(path.parts[0] == "b") for path in files),
    )
    sides = [Pool(folder, tracks=True).two_sides(0, 5, seeded(seed)) for seed in range(MANY)]
    serve = all(len(support) >= 5 and len(query) >= 5 for support, query in sides)
    assert (Pool(folder, tracks=True).leave_out_small(5, 5) == []) == serve
