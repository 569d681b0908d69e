"""Tasks whose classes are single images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.random_streams import Stream
from fewshot_lite.core.random_streams import generator as stream_generator
from fewshot_lite.data.episodes import EpisodeConfig, Pool, sample_instances
from fewshot_lite.images.folders import LabelledImages, scan_classes
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.tasks import TrainingTasks

SIZE = 32
CONFIG = MetaTrainConfig(
    instances=1.0, min_way=5, max_way=9, max_shot=4, queries=3, shifts=0.0, image_size=SIZE
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    """Six classes of four photos, each of one colour that no other has."""
    root = tmp_path_factory.mktemp("plain")
    for k in range(6):
        (root / f"class{k}").mkdir()
        for i in range(4):
            colour = (40 * k + 20, 60 * i + 20, 128)
            Image.new("RGB", (SIZE, SIZE), colour).save(root / f"class{k}" / f"{i}.png")
    return scan_classes(root)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_classes_are_distinct_images_and_some_resemble_each_other(folder: LabelledImages) -> None:
    pool, ways, shots, related = Pool(folder), set(), set(), 0
    for seed in range(60):
        episode, shot, queries = sample_instances(
            [pool], EpisodeConfig(5, 9, 20, 4, 3), generator(seed)
        )
        assert len(set(episode.support)) == episode.classes == len(episode.support)
        assert episode.support_labels == list(range(episode.classes))
        assert not episode.query
        assert shot * episode.classes <= 20
        assert queries == 3
        ways.add(episode.classes)
        shots.add(shot)
        classes = [pool.class_of(index) for index in episode.support]
        related += len(set(classes)) < len(classes)
    assert ways == set(range(5, 10))
    assert shots == {1, 2, 3, 4}
    assert related == 60


def test_support_and_queries_are_views_of_the_same_image(folder: LabelledImages) -> None:
    tasks = TrainingTasks([folder], CONFIG, SIZE, None)
    for number in range(8):
        prepared = tasks.prepare(number)
        pixels = prepared.pixels[:, :, 0, 0]
        labels = torch.cat([prepared.support_labels, prepared.query_labels])
        assert set(prepared.query_labels.tolist()) == set(range(prepared.classes))
        colours = {tuple(colour) for colour in pixels.tolist()}
        assert len(colours) == prepared.classes
        for k in range(prepared.classes):
            assert len({tuple(colour) for colour in pixels[labels == k].tolist()}) == 1
        task = prepared.on(torch.device("cpu"))
        assert len(task.support) == len(prepared.support_labels)
        first, second = task.query[prepared.query_labels == 0][:2]
        assert not torch.equal(first, second)  # other crops, another light


def test_a_share_of_the_tasks_and_the_others_as_they_were(folder: LabelledImages) -> None:
    plain = TrainingTasks([folder], replace(CONFIG, instances=0.0), SIZE, None)
    mixed = TrainingTasks([folder], replace(CONFIG, instances=0.5), SIZE, None)
    same = 0
    for number in range(40):
        one, other = plain.prepare(number), mixed.prepare(number)
        same += one.pixels.shape == other.pixels.shape and torch.equal(one.pixels, other.pixels)
    assert 10 <= same <= 30


def test_a_photo_that_fails_is_replaced_by_one_other_on_both_sides(
    folder: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_lite.training.tasks._MEMORY", 0)
    tasks = TrainingTasks([folder], CONFIG, SIZE, None)
    whole = tasks.prepare(0)
    lost = folder.paths[_first_image(tasks)]
    assert isinstance(lost, Path)
    kept = lost.read_bytes()
    try:
        lost.write_bytes(b"no photo")
        prepared = tasks.prepare(0)
    finally:
        lost.write_bytes(kept)
    assert [item.source for item in prepared.replaced] == [str(lost)]
    assert prepared.classes == whole.classes
    labels = torch.cat([prepared.support_labels, prepared.query_labels])
    colours = prepared.pixels[labels == 0][:, :, 0, 0]
    assert len({tuple(colour) for colour in colours.tolist()}) == 1
    assert not torch.equal(colours[0], whole.pixels[0, :, 0, 0])


def _first_image(tasks: TrainingTasks) -> int:
    random = stream_generator(CONFIG.seed, Stream.INSTANCE_TASKS, 0)
    torch.rand((), generator=random)
    config = EpisodeConfig(5, 9, CONFIG.max_support, 4, 3)
    return sample_instances(tasks.pools, config, random)[0].support[0]


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_shares_that_are_none_are_refused(share: float) -> None:
    with pytest.raises(UsageError, match=rf"--instances {share}: must be at least 0 and at most 1"):
        replace(CONFIG, instances=share).check()


def test_views_are_needed() -> None:
    with pytest.raises(UsageError, match="--no-augment: must be left out with --instances"):
        replace(CONFIG, augment=False).check()
