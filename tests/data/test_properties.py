"""What holds for every episode: its classes, ways and shots; support and queries are apart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from fewshot_lite.data.episodes import (
    Episode,
    EpisodeConfig,
    Pool,
    sample_fixed_episode,
    sample_training_episode,
)
from fewshot_lite.images.folders import LabelledImages
from properties import PROPERTY

#: Of each class, the images of each of its groups.
GROUPS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=6), min_size=1, max_size=8)
SEEDS = st.integers(0, 10**6)


def data_of(groups: list[list[int]]) -> LabelledImages:
    files = [
        (k, f"{k} {group}")
        for k, sizes in enumerate(groups)
        for group, size in enumerate(sizes)
        for _ in range(size)
    ]
    return LabelledImages(
        name="things",
        root=Path("things"),
        class_names=tuple(map(str, range(len(groups)))),
        paths=tuple(Path(f"{number}.png") for number in range(len(files))),
        labels=tuple(k for k, _ in files),
        groups=tuple(group for _, group in files),
    )


def check(episode: Episode, data: LabelledImages) -> tuple[Counter[int], Counter[int]]:
    """Shots and queries by class, if all that must hold does."""
    sides = (episode.support, episode.support_labels), (episode.query, episode.query_labels)
    classes: dict[int, set[int]] = {}
    for images, labels in sides:
        assert len(images) == len(set(images)) == len(labels)
        for image, label in zip(images, labels, strict=True):
            classes.setdefault(label, set()).add(data.labels[image])
        assert set(labels) == set(range(episode.classes))
    assert all(len(real) == 1 for real in classes.values())
    assert len(set.union(*classes.values())) == episode.classes
    support, query = ({data.groups[image] for image in images} for images, _ in sides)
    assert not support & query
    return Counter(episode.support_labels), Counter(episode.query_labels)


@PROPERTY
@given(
    groups=GROUPS,
    ways=st.tuples(st.integers(1, 8), st.integers(0, 8)),
    max_support=st.integers(1, 40),
    max_shot=st.integers(1, 10),
    queries=st.integers(1, 10),
    seed=SEEDS,
)
def test_episodes_of_variable_way_and_shots(
    groups: list[list[int]],
    ways: tuple[int, int],
    max_support: int,
    max_shot: int,
    queries: int,
    seed: int,
) -> None:
    data = data_of(groups)
    pool = Pool(data)
    config = EpisodeConfig(ways[0], sum(ways), max_support, max_shot, queries)
    assume(pool.classes >= config.min_way)
    episode, again = (
        sample_training_episode([pool], config, torch.Generator().manual_seed(seed))
        for _ in range(2)
    )
    assert episode == again
    shots, asked = check(episode, data)
    assert config.min_way <= episode.classes <= min(config.max_way, pool.classes)
    assert len(episode.support) <= max(max_support, episode.classes)
    assert max(shots.values()) <= max_shot
    assert max(asked.values()) <= queries


@PROPERTY
@given(
    groups=GROUPS,
    way=st.integers(1, 8),
    shot=st.integers(1, 4),
    queries=st.integers(1, 4),
    seed=SEEDS,
)
def test_episodes_of_fixed_way_and_shots(
    groups: list[list[int]], way: int, shot: int, queries: int, seed: int
) -> None:
    data = data_of(groups)
    pool = Pool(data)
    pool.leave_out_small(shot, queries)  # of what is left, every draw succeeds
    assume(pool.classes >= way)
    generator = torch.Generator().manual_seed(seed)
    shots, asked = check(sample_fixed_episode(pool, way, shot, queries, generator), data)
    assert set(shots.values()) == {shot}
    assert set(asked.values()) == {queries}
