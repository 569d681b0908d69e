"""Images that can no longer be read: others take their place, as long as there are any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.data.episode_images import read_episode
from fewshot_lite.data.episodes import Episode, EpisodeConfig, Pool, sample_training_episode
from fewshot_lite.data.store import ImageStore, decode
from fewshot_lite.images.folders import LabelledImages, scan_classes
from photos import classes, draw_classes

SIZE = 16
#: Two classes of 8, as `draw_classes` sorts them: 0-7 and 8-15.
EPISODE = Episode(0, [0, 1, 8, 9], [0, 0, 1, 1], [2, 3, 10, 11], [0, 0, 1, 1], 2)


@pytest.fixture
def data(tmp_path: Path) -> LabelledImages:
    return scan_classes(draw_classes(tmp_path / "shapes", classes(2, photos=8)))


def generator(seed: int = 0) -> Callable[[], torch.Generator]:
    return lambda: torch.Generator().manual_seed(seed)


def opened(data: LabelledImages) -> tuple[ImageStore, Pool]:
    return ImageStore(data.paths, SIZE, memory_limit=0), Pool(data)


def lose(data: LabelledImages, *indices: int) -> None:
    for index in indices:
        Path(str(data.paths[index])).unlink()


def test_an_episode_that_can_be_read_is_left_alone(data: LabelledImages) -> None:
    def never() -> torch.Generator:
        raise AssertionError

    images, episode, replaced = read_episode(*opened(data), EPISODE, never)
    assert episode is EPISODE
    assert replaced == ()
    wanted = [data.paths[i] for i in EPISODE.support + EPISODE.query]
    assert torch.equal(images, decode(wanted, SIZE)[0])


@pytest.mark.parametrize("seed", range(5))
def test_others_of_the_class_take_the_place_and_the_lost_are_named(
    data: LabelledImages, seed: int
) -> None:
    lose(data, 1, 10, 4)
    images, episode, replaced = read_episode(*opened(data), EPISODE, generator(seed))
    new, query = episode.support[1], episode.query[2]
    assert new in {5, 6, 7}  # of the class, not used already, and there
    assert query in {12, 13, 14, 15}
    assert episode == replace(EPISODE, support=[0, new, 8, 9], query=[2, 3, query, 11])
    assert torch.equal(
        images, decode([data.paths[i] for i in episode.support + episode.query], SIZE)[0]
    )
    assert {Path(item.source).name for item in replaced} >= {"01.png", "02.png"}
    assert {item.reason for item in replaced} == {"no such file"}


def test_the_seed_decides_which(data: LabelledImages) -> None:
    lose(data, 0, 1, 2)
    found = {
        seed: [read_episode(*opened(data), EPISODE, generator(seed))[1] for _ in range(2)]
        for seed in range(6)
    }
    assert all(first == second for first, second in found.values())
    assert len({tuple(first.support) for first, _ in found.values()}) > 1


def test_images_are_left_out_while_the_class_has_others_and_then_it_is_said(
    data: LabelledImages,
) -> None:
    lose(data, 0, 4, 5, 6, 7)
    images, episode, _ = read_episode(*opened(data), EPISODE, generator())
    assert (episode.support, episode.support_labels) == ([1, 8, 9], [0, 1, 1])
    assert len(images) == 7
    lose(data, 2)
    images, episode, _ = read_episode(*opened(data), EPISODE, generator())
    assert (episode.query, episode.query_labels) == ([3, 10, 11], [0, 1, 1])
    lose(data, 3)
    with pytest.raises(
        FewshotError, match=r"shapes: too few photos of class 'thing 0' .*: \d failed.*no such file"
    ):
        read_episode(*opened(data), EPISODE, generator())


def test_a_damaged_file_and_images_in_memory(data: LabelledImages) -> None:
    Path(str(data.paths[0])).write_bytes(b"")
    _, episode, (replaced,) = read_episode(*opened(data), EPISODE, generator())
    assert episode.support[0] in {4, 5, 6, 7}
    assert replaced.reason == "empty file (0 bytes)"
    kept = ImageStore(data.paths, SIZE)
    lose(data, 8, 9)
    _, episode, _ = read_episode(kept, Pool(data), EPISODE, generator())
    assert episode.support[2:] == [8, 9]


def test_groups_never_lie_on_both_sides(data: LabelledImages) -> None:
    """Two frames a track: the substitute of a support image is of no track of the queries."""
    grouped = replace(data, groups=tuple(f"track {i // 2}" for i in range(16)))
    pool = Pool(grouped)
    config = EpisodeConfig(2, 2, 4, 2, 2)
    for seed in range(20):
        episode = sample_training_episode([pool], config, torch.Generator().manual_seed(seed))
        store = ImageStore(data.paths, SIZE)
        store.problems = {episode.support[0]: "lost", episode.query[0]: "lost"}
        _, found, replaced = read_episode(store, pool, episode, generator(seed))
        assert len(replaced) >= 2
        tracks = [{i // 2 for i in side} for side in (found.support, found.query)]
        assert not tracks[0] & tracks[1]


def test_groups_for_queries_alone_stay_there(data: LabelledImages) -> None:
    groups = tuple("clutter" if i % 8 >= 4 else f"clean {i}" for i in range(16))
    pool = Pool(replace(data, groups=groups, query_groups=frozenset(["clutter"])))
    episode = Episode(0, [0, 8], [0, 1], [4, 12], [0, 1], 2)
    store = ImageStore(data.paths, SIZE)
    store.problems = {0: "lost", 12: "lost"}
    _, found, _ = read_episode(store, pool, episode, generator())
    assert found.support[0] in {1, 2, 3}
    assert found.query[1] in {13, 14, 15}
