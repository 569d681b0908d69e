"""ORBIT for training and checking: recognised, summarised, videos never on both sides of a task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.data.episodes import EpisodeConfig, Pool, sample_training_episode
from fewshot_lite.images.photo import Source, Square, read_square
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.published.data_sets import scan_data_sets
from fewshot_lite.published.orbit.check import describe
from fewshot_lite.published.orbit.folders import scan_orbit
from fewshot_lite.published.orbit.layout import find_orbit
from fewshot_lite.training.meta_train import meta_train
from fewshot_lite.training.tasks import TrainingTasks
from orbit_tree import TWO, Users, draw_orbit, video_name
from photos import QUICK, classes, draw_classes

TRAIN: Users = {
    user: {
        thing: {"clean": [61, 31], "clutter": [61, 2]} for thing in ("bag", "keys", "mug", "pen")
    }
    for user in ("P100", "P177")
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_orbit(tmp_path_factory.mktemp("orbit"), {"train": TRAIN, "test": {"P204": TWO}})


def test_modes_are_found_and_a_folder_of_users_is_one(root: Path, tmp_path: Path) -> None:
    assert list(find_orbit(root)) == ["train", "test"]
    assert list(find_orbit(root / "test")) == ["test"]
    assert find_orbit(root / "test" / "P204") == {}
    assert find_orbit(draw_classes(tmp_path / "P1", classes(2, photos=1))) == {}
    assert find_orbit(tmp_path / "missing") == {}


def test_a_user_is_a_data_set_an_object_a_class_every_30th_frame_is_taken(root: Path) -> None:
    data = scan_orbit(root)
    assert [folder.name for folder in data] == ["P100", "P177"]
    assert data[0].class_names == ("bag", "keys", "mug", "pen")
    bag = [
        path.name for path, label in zip(data[0].paths, data[0].labels, strict=True) if not label
    ]
    first, second = (video_name("P100", "bag", kind, 0) for kind in ("clean", "clutter"))
    third, fourth = (video_name("P100", "bag", kind, 1) for kind in ("clean", "clutter"))
    numbers = {first: (1, 31, 61), third: (1, 31), second: (1, 31, 61), fourth: (1,)}
    assert bag == [f"{video}-{n:05d}.jpg" for video in numbers for n in numbers[video]]


def test_tasks_have_clean_support_and_clutter_queries(root: Path) -> None:
    (first, _) = scan_orbit(root)
    pool = Pool(first.select({"bag", "mug", "pen"}))
    config = EpisodeConfig(min_way=2, max_way=3, max_support=12, max_shot=4, queries=10)
    for seed in range(50):
        random = torch.Generator().manual_seed(seed)
        episode = sample_training_episode([pool], config, random)
        chosen = first.select({"bag", "mug", "pen"}).paths
        assert {chosen[i].parents[1].name for i in episode.support} == {"clean"}
        assert {chosen[i].parents[1].name for i in episode.query} == {"clutter"}
        assert len(episode.query) == 4 * episode.classes  # all of the clutter frames


def test_unreadable_frames_of_one_side_take_the_class_away(root: Path) -> None:
    (first, _) = scan_orbit(root)
    clutter = [i for i, p in enumerate(first.paths) if "clutter" in p.parts and "bag" in p.parts]
    assert Pool(first, unreadable=clutter).class_names == ["keys", "mug", "pen"]
    assert Pool(first, unreadable=clutter[1:]).classes == 4


def test_objects_without_a_side_and_empty_videos_are_named(tmp_path: Path) -> None:
    users: Users = {
        "P1": {**TWO, "mug": {"clean": [2]}, "pen": {"clean": [0, 1], "clutter": [1]}},
        "P2": {"bag": {"clean": [1], "clutter": [1]}},
    }
    (only,) = scan_orbit(draw_orbit(tmp_path, {"train": users}))
    assert only.class_names == ("bag", "keys", "pen")
    assert [(s.path.name, s.reason) for s in only.skipped] == [
        (video_name("P1", "pen", "clean", 0), "a video without frames"),
        ("mug", "an object without clutter videos"),
    ]


def test_no_users_to_train_on(tmp_path: Path) -> None:
    draw_orbit(tmp_path, {"train": {"P2": {"bag": {"clean": [1], "clutter": [1]}}}})
    with pytest.raises(FewshotError, match="no user has 2 objects"):
        scan_orbit(tmp_path)


def test_users_of_a_mode_are_told_from_those_of_another(root: Path) -> None:
    assert [folder.name for folder in scan_data_sets(root)] == ["P100", "P177"]
    assert [folder.name for folder in scan_data_sets(root / "test")] == ["P204"]
    with pytest.raises(UsageError, match="no 'validation' folder with users, only train, test"):
        scan_data_sets(root, "validation")


def test_meta_training_on_users(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.safetensors"
    assert meta_train(root, output, replace(QUICK, tasks=2)).finished
    data = MetaModel.load(output).record["data"]
    assert data == {user: ["bag", "keys", "mug", "pen"] for user in ("P100", "P177")}


@pytest.mark.parametrize(("spare", "decoded"), [(0, 72), (-1, 0)])
def test_all_users_share_the_memory(
    root: Path, monkeypatch: pytest.MonkeyPatch, spare: int, decoded: int
) -> None:
    read: list[Source] = []

    def load(path: Source, size: int, **options: Any) -> Square:
        read.append(path)
        return read_square(path, size, **options)

    monkeypatch.setattr("fewshot_lite.images.decoding.read_square", load)
    monkeypatch.setattr("fewshot_lite.training.tasks._MEMORY", 72 * 3 * 8 * 8 + spare)
    TrainingTasks(scan_orbit(root), QUICK, 8, None)
    assert len(read) == decoded


def test_a_summary_of_what_is_there(root: Path) -> None:
    summary = describe(root)
    assert summary is not None
    assert summary.format == "ORBIT"
    train, test = summary.data_sets
    assert (train.name, train.classes, train.images) == ("train", 8, 8 * (92 + 63))
    assert train.splits == (("clean", 8 * 92), ("clutter", 8 * 63))
    assert train.sizes == ((16, 16), (16, 16))
    assert (test.name, test.classes) == ("test", 2)
    assert summary.problems == ()
    assert "train: 2 users, 32 videos." in summary.notes
    assert "test: the published benchmark has 17 users." in summary.notes


def test_problems_of_what_is_there(tmp_path: Path) -> None:
    users: Users = {
        "P1": {**TWO, "mug": {"clean": [2]}, "pen": {"clean": [0, 1], "clutter": [1] * 4}},
        "P2": {"bag": {"clean": [1], "clutter": [1]}},
    }
    draw_orbit(tmp_path, {"test": users, "train": {"P3": TWO}})
    annotations = tmp_path / "annotations"
    for path in annotations.glob("test/P1--*--clutter--*"):
        path.unlink()
    for path in [*annotations.glob("train/*"), annotations / "train"]:
        path.unlink() if path.is_file() else path.rmdir()
    summary = describe(tmp_path)
    assert summary is not None
    missing = annotations / "test"
    assert [problem.replace(str(tmp_path), "") for problem in summary.problems] == [
        "/annotations/train: no annotations; evaluation needs them, or --all-frames. Unpack "
        f"orbit_extra_annotations.zip into {annotations}.".replace(str(tmp_path), ""),
        "/test/P1/mug: no clutter videos with frames. The object is left out.",
        f"/test/P1/pen/clean/{video_name('P1', 'pen', 'clean', 0)}: no frames. The video is left "
        "out.",
        "/test/P2: 1 object; a task needs 2. The user is left out.",
        *(
            f"/annotations/test/{video_name('P1', thing, 'clutter', 0)}.json: missing; evaluation "
            "needs it, or --all-frames."
            for thing in ("bag", "keys", "pen")
        ),
        f"{missing}: 3 more annotation files are missing or damaged.".replace(str(tmp_path), ""),
    ]


def test_other_folders_are_left_to_others(tmp_path: Path) -> None:
    assert describe(draw_classes(tmp_path / "things", classes(2, photos=1))) is None
    assert describe(tmp_path / "missing") is None
