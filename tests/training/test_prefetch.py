"""Feeding: the same tasks whoever prepares them; no run ends for a worker or a photo."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.random_streams import Stream, generator
from fewshot_lite.data.augment import (
    Augmentation,
    apply_shift,
    draw_shift,
    draw_views,
    quarter_turns,
    random_views,
)
from fewshot_lite.data.episode_images import Replaced
from fewshot_lite.data.episodes import EpisodeConfig, Pool, sample_training_episode
from fewshot_lite.data.prepared_task import PreparedTask
from fewshot_lite.data.store import ImageStore
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.images.opening import current_limit
from fewshot_lite.learners.task import Task
from fewshot_lite.training import prefetch
from fewshot_lite.training.prefetch import Prefetch, pick_workers
from fewshot_lite.training.tasks import Cache, TrainingTasks
from photos import QUICK, SIZE, classes, draw_classes

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CONFIG = replace(QUICK, shifts=0.5)
NUMBERS = [3, 4, 5, 9]
fork = pytest.mark.skipif(os.name != "posix", reason="needs fork")


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return draw_classes(tmp_path / "shapes", classes(5, photos=8))


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot_lite.training.tasks._MEMORY", 0)


def source(data: Path, cache: Path | None = None) -> TrainingTasks:
    kept = None if cache is None else Cache(cache)
    return TrainingTasks([scan_classes(data)], CONFIG, SIZE, None, kept)


def tasks(feed: Prefetch) -> list[Task]:
    with feed:
        return [feed.next() for _ in NUMBERS]


def test_the_limit_of_pixels_holds_for_as_long_as_a_worker(
    shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = SimpleNamespace(dataset=prefetch._Prepared(source(shapes)))
    monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda: worker)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    before = current_limit()
    prefetch._begin_worker(12_345, 0)
    gc.collect()
    assert current_limit() == 12_345
    prefetch._worker_contexts.close()
    assert current_limit() == before


def assert_same(found: list[Task], expected: list[Task]) -> None:
    for one, other in zip(found, expected, strict=True):
        for name in ("support", "support_labels", "query", "query_labels"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert one.classes == other.classes


@pytest.mark.parametrize(
    "options",
    [
        {"rotate": ("shapes",)},
        {"augment": False},
        {"augment": False, "rotate": ("shapes",), "no_flip": ("shapes",), "shifts": 1.0},
        {"shot": 2, "max_way": 3, "rotate": ("shapes",)},
    ],
)
def test_prepared_tasks_are_those_made_in_one_go(shapes: Path, options: dict[str, Any]) -> None:
    """The order in which randomness is drawn, too: a seed's tasks stay what they were."""
    config = replace(CONFIG, **options)
    folder = scan_classes(shapes)
    found = TrainingTasks([folder], config, SIZE, None)
    pixels, pool = ImageStore(folder.paths, SIZE), Pool(folder)
    limits = (config.min_way, config.max_way, config.max_support, config.max_shot, config.queries)
    for number in NUMBERS:
        random = generator(config.seed, Stream.TRAINING_TASKS, number)
        episode = sample_training_episode([pool], EpisodeConfig(*limits, config.shot), random)
        images = pixels[episode.support + episode.query]
        if config.rotate:
            turns = torch.randint(4, (episode.classes,), generator=random)
            labels = torch.tensor(episode.support_labels + episode.query_labels)
            images = quarter_turns(images, turns[labels])
        flip = torch.full((len(images),), not config.no_flip)
        views = images.float() / 255
        if config.augment:
            views = random_views(images, SIZE, Augmentation(min_area=0.5), flip, random)
        if float(torch.rand((), generator=random)) < config.shifts:
            views = apply_shift(views, draw_shift(random))
        task = found.task(number)
        assert torch.equal(torch.cat([task.support, task.query]), views)
        assert task.query_labels.tolist() == episode.query_labels


@fork
@pytest.mark.parametrize("where", ["memory", "cache", "disk"])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_tasks_are_the_same_whoever_prepares_them(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, workers: int
) -> None:
    plain = source(shapes)
    expected = [plain.task(number) for number in NUMBERS]
    if where == "disk":
        monkeypatch.setattr("fewshot_lite.training.tasks._MEMORY", 0)
    (tmp_path / "cache").mkdir()
    other = source(shapes, tmp_path / "cache" if where == "cache" else None)
    assert other.kept == (where != "disk")
    found = tasks(Prefetch(other, NUMBERS, CPU, workers=workers, start_method="fork"))
    assert_same(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_begin_from_nothing(shapes: Path, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    expected = tasks(Prefetch(source(shapes), NUMBERS, CPU, workers=0))
    assert_same(
        tasks(Prefetch(source(shapes), NUMBERS, CPU, workers=1, start_method=method)), expected
    )


def test_views_are_made_a_part_at_a_time_and_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randint(256, (30, 3, 24, 24), dtype=torch.uint8)
    for seed in range(8):  # each kind of shift
        random, again = (torch.Generator().manual_seed(seed) for _ in range(2))
        augmentation, flip = Augmentation(rotation=10), torch.ones(30, dtype=torch.bool)
        labels = torch.zeros(20, dtype=torch.long)
        views, shift = draw_views(augmentation, flip, random), draw_shift(random)
        prepared = PreparedTask(pixels, labels, labels[:10], 1, 16, views, shift)
        expected = apply_shift(
            random_views(pixels, 16, augmentation, flip, again), draw_shift(again)
        )
        for chunk in (1, 7, 64):
            monkeypatch.setattr("fewshot_lite.data.prepared_task._CHUNK", chunk)
            task = prepared.on(CPU)
            assert torch.equal(torch.cat([task.support, task.query]), expected)


@fork
@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("workers", [0, 2])
def test_lost_photos_are_replaced_alike_and_told(shapes: Path, workers: int) -> None:
    data = source(shapes)
    for number in range(5):
        (shapes / f"thing {number}" / "03.png").unlink()
    told: list[Replaced] = []
    feed = Prefetch(
        data, NUMBERS, CPU, workers=workers, on_replaced=told.append, start_method="fork"
    )
    assert_same(tasks(feed), [data.task(number) for number in NUMBERS])
    assert told
    assert {(Path(item.source).name, item.reason) for item in told} == {("03.png", "no such file")}


@fork
@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_class_without_photos_ends_in_one_line(shapes: Path, workers: int) -> None:
    data = source(shapes)
    for photo in shapes.glob("*/*"):
        photo.unlink()
    with (
        Prefetch(data, NUMBERS, CPU, workers=workers, start_method="fork") as feed,
        pytest.raises(FewshotError, match=r"^shapes: too few photos of class") as caught,
    ):
        feed.next()
    assert "\n" not in str(caught.value)


@fork
@pytest.mark.usefixtures("on_disk")
def test_workers_survive_what_asks_the_run_to_stop(shapes: Path) -> None:
    numbers = range(30)
    with Prefetch(source(shapes), numbers, CPU, workers=2, start_method="fork") as feed:
        feed.next()
        time.sleep(0.3)  # both have begun
        for worker in multiprocessing.active_children():
            for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
                os.kill(worker.pid or 0, number)
        for _ in numbers[1:]:
            feed.next()
    assert not multiprocessing.active_children()


@fork
def test_a_worker_that_dies_ends_the_run_in_one_line(shapes: Path) -> None:
    with pytest.raises(FewshotError, match=r"^A worker .* died.*--workers 0\.$"):
        run_and_kill(shapes)


def run_and_kill(shapes: Path) -> None:
    numbers = range(500)
    with Prefetch(source(shapes), numbers, CPU, workers=1, start_method="fork") as feed:
        feed.next()
        for worker in multiprocessing.active_children():
            os.kill(worker.pid or 0, signal.SIGKILL)
        for _ in numbers[1:]:
            feed.next()
            time.sleep(0.01)


@fork
def test_the_callers_random_state_is_left_alone(shapes: Path) -> None:
    data, state = source(shapes), torch.get_rng_state()
    for workers in (0, 1):
        tasks(Prefetch(data, NUMBERS, CPU, workers=workers, start_method="fork"))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_that_ends_early_leaves_nothing_running(shapes: Path) -> None:
    for workers in (0, 2):
        with Prefetch(source(shapes), range(100), CPU, workers=workers) as feed:
            feed.next()
        assert not multiprocessing.active_children()


@pytest.mark.usefixtures("on_disk")
def test_waiting_is_a_share_of_the_time(shapes: Path) -> None:
    with Prefetch(source(shapes), range(4), CPU, workers=0) as feed:
        feed.next()
        assert 0 < feed.share_waited() <= 1
        time.sleep(0.05)
        assert feed.share_waited() == 0  # nothing was asked for


def test_what_pays() -> None:
    cuda = torch.device("cuda")
    assert pick_workers(CPU, kept=False) == pick_workers(CPU, kept=True) == 0
    assert pick_workers(cuda, kept=True) == 0
    assert 1 <= pick_workers(cuda, kept=False) <= 8
