"""Validation: the same tasks each time, and the accuracy of a learner on them."""

from __future__ import annotations

from statistics import fmean

import pytest
import torch

from fewshot_lite.data.episodes import Pool
from fewshot_lite.data.store import ImageStore
from fewshot_lite.evaluation.accuracy import accuracies_on, fixed_episodes
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.learners import ProtoNets
from fewshot_lite.networks.micro_batches import Passes
from photos import classes, draw_classes
from tiny import TinyBackbone


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageStore, Pool]:
    folder = scan_classes(draw_classes(tmp_path_factory.mktemp("data"), classes(5, photos=6)))
    return ImageStore(folder.paths, 16), Pool(folder)


def test_fixed_episodes_are_the_same_and_more_of_them_begin_alike(
    data: tuple[ImageStore, Pool],
) -> None:
    _, pool = data
    few = fixed_episodes(pool, way=3, shot=2, queries=2, tasks=3, seed=1)
    more = fixed_episodes(pool, way=3, shot=2, queries=2, tasks=6, seed=1)
    other = fixed_episodes(pool, way=3, shot=2, queries=2, tasks=3, seed=2)
    assert more[:3] == few != other
    assert len({str(episode) for episode in more}) == 6


def test_a_tasks_images_are_those_of_its_episode(data: tuple[ImageStore, Pool]) -> None:
    store, pool = data
    (episode,) = fixed_episodes(pool, way=3, shot=2, queries=1, tasks=1, seed=0)
    task = episode.task(store[episode.support + episode.query])
    assert task.support.shape == (6, 3, 16, 16)
    assert task.query.shape == (3, 3, 16, 16)
    for position, index in enumerate(episode.support):
        assert torch.equal(task.support[position], store[[index]][0])
    assert task.support_labels.tolist() == episode.support_labels


def test_what_can_be_told_apart_by_its_colour_is_told_apart(
    data: tuple[ImageStore, Pool],
) -> None:
    store, pool = data
    episodes = fixed_episodes(pool, way=5, shot=3, queries=3, tasks=10, seed=0)
    tasks = (episode.task(store[episode.support + episode.query]) for episode in episodes)
    accuracies = accuracies_on(tasks, ProtoNets(TinyBackbone()), Passes())
    assert len(accuracies) == 10
    assert fmean(accuracies) > 0.5  # by chance: 0.2
