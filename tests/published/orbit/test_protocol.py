"""Tasks of ORBIT: which frames, of which videos, the same whenever drawn again."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.evaluation.protocols.base import EvaluationProtocol, EvaluationTask
from fewshot_lite.published.orbit.protocol import RULES, OrbitProtocol
from orbit_tree import TWO, annotate, draw_orbit, video_name

FEW = replace(RULES["2022"], query_frames=5)


def clutter(user: str, thing: str, number: int = 0) -> str:
    return video_name(user, thing, "clutter", number)


def frames(task: EvaluationTask, video: str) -> list[int]:
    """Numbers of a video's query frames."""
    pairs = zip(task.query, task.query_parts, strict=True)
    return [int(Path(str(path)).stem[-5:]) for path, part in pairs if part == video]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    users = {
        "P204": TWO,
        "P177": {
            "bag": {"clean": [40, 400], "clutter": [230, 60]},
            "keys": {"clean": [2], "clutter": [50, 49]},
        },
    }
    root = draw_orbit(tmp_path_factory.mktemp("orbit"), {"test": users})
    annotate(root, "test", clutter("P177", "bag"), 230, absent=range(1, 11))
    return root


def test_it_is_a_protocol_with_a_group_a_user(root: Path) -> None:
    protocol = OrbitProtocol(root)
    assert isinstance(protocol, EvaluationProtocol)
    assert protocol.name == "ORBIT 2022 (clutter videos, test users)"
    assert tuple(protocol.groups) == ("P177", "P204")
    assert len(protocol) == 100
    assert [protocol.task(n).group for n in (0, 49, 50, 99)] == ["P177", "P177", "P204", "P204"]


def test_a_task_has_all_objects_clean_support_and_clutter_queries(root: Path) -> None:
    task = OrbitProtocol(root).task(0)
    assert task.class_names == ("bag", "keys")
    assert set(task.support_labels) == set(task.query_labels) == {0, 1}
    for path, label in zip(task.support, task.support_labels, strict=True):
        assert f"{task.class_names[label]}/clean/" in str(path)
    queries = zip(task.query, task.query_labels, task.query_parts, strict=True)
    for path, label, part in queries:
        assert f"{task.class_names[label]}/clutter/{part}/{part}-" in str(path)
        assert Path(str(path)).is_file()


def support_frames(task: EvaluationTask) -> dict[str, list[int]]:
    """Numbers of the support frames, by video."""
    numbers: dict[str, list[int]] = {}
    for path in map(Path, map(str, task.support)):
        numbers.setdefault(path.parent.name, []).append(int(path.stem[-5:]))
    return numbers


def test_support_is_every_30th_frame_of_each_clean_video(root: Path) -> None:
    assert support_frames(OrbitProtocol(root).task(0)) == {
        video_name("P177", "bag", "clean", 0): [1, 31],
        video_name("P177", "bag", "clean", 1): [1 + 30 * n for n in range(14)],
        video_name("P177", "keys", "clean", 0): [1],
    }


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "support"), [(301, 11), (450, 15), (900, 30), (1200, 34)])
def test_a_long_clean_video_gives_as_many_support_frames_as_published(
    tmp_path: Path, frames: int, support: int
) -> None:
    """No cap of 10; the first 1,000 frames are looked at."""
    things = {thing: {"clean": [frames], "clutter": [50]} for thing in ("bag", "keys")}
    draw_orbit(tmp_path, {"test": {"P177": things}})
    found = support_frames(OrbitProtocol(tmp_path).task(0))
    assert [len(numbers) for numbers in found.values()] == [support, support]


def test_random_support_is_1_to_10_frames_a_video(root: Path) -> None:
    protocol = OrbitProtocol(root, replace(RULES["2022"], support="random"))
    shots = [Counter(Path(str(p)).parent.name for p in protocol.task(n).support) for n in range(50)]
    long, short = (video_name("P177", t, "clean", n) for t, n in (("bag", 1), ("keys", 0)))
    assert {shot[long] for shot in shots} == set(range(1, 11))
    assert {shot[short] for shot in shots} == {1, 2}
    assert any("1 to 10 random ones" in note for note in protocol.notes)


def test_queries_are_200_frames_that_show_the_object_or_all_of_fewer(root: Path) -> None:
    task = OrbitProtocol(root).task(0)
    counts = Counter(task.query_parts)
    assert counts == {
        clutter("P177", "bag", 0): 200,  # of 220 that show it
        clutter("P177", "bag", 1): 60,
        clutter("P177", "keys", 0): 50,
    }
    drawn = frames(task, clutter("P177", "bag", 0))
    assert min(drawn) > 10
    assert drawn == sorted(set(drawn))


def test_a_video_with_fewer_than_50_usable_frames_is_left_out_and_named(root: Path) -> None:
    notes = OrbitProtocol(root).notes
    assert any(
        note.startswith(f"Video {clutter('P177', 'keys', 1)} left out: 49 of its 49")
        for note in notes
    )


def test_null_is_neither_present_nor_absent_and_left_out(tmp_path: Path) -> None:
    draw_orbit(tmp_path, {"test": {"P177": TWO}})
    video = clutter("P177", "bag")
    path = annotate(tmp_path, "test", video, 52)
    entries = json.loads(path.read_text())
    entries[f"{video}-00003.jpg"]["object_not_present_issue"] = None
    path.write_text(json.dumps(entries))
    assert frames(OrbitProtocol(tmp_path).task(0), video) == [1, 2, *range(4, 53)]


def test_the_same_seed_gives_the_same_tasks_in_any_order(root: Path) -> None:
    one, other = OrbitProtocol(root, FEW), OrbitProtocol(root, FEW)
    backwards = [other.task(n) for n in reversed(range(100))][::-1]
    assert [one.task(n) for n in range(100)] == backwards
    assert len({task.query for task in backwards}) == 100
    assert OrbitProtocol(root, FEW, seed=1).task(0) != one.task(0)


def test_no_more_than_the_first_1000_usable_frames_are_queries(tmp_path: Path) -> None:
    draw_orbit(tmp_path, {"test": {"P177": TWO}})
    video = clutter("P177", "bag")
    folder = tmp_path / "test/P177/bag/clutter" / video
    for number in range(53, 1101):
        (folder / f"{video}-{number:05d}.jpg").touch()
    annotate(tmp_path, "test", video, 1100, absent=range(1, 51))
    every = replace(RULES["2022"], query_frames=None)
    assert frames(OrbitProtocol(tmp_path, every).task(0), video) == list(range(51, 1051))


def test_of_more_than_15_videos_15_are_drawn(tmp_path: Path) -> None:
    bag = {"clean": [1] * 17, "clutter": [1] * 16}
    draw_orbit(tmp_path, {"test": {"P177": {"bag": bag, "keys": {"clean": [1], "clutter": [1]}}}})
    protocol = OrbitProtocol(tmp_path, RULES["2021"])
    tasks = [protocol.task(n) for n in range(5)]
    assert all(task.support_labels.count(0) == 15 for task in tasks)
    assert all(task.query_labels.count(0) == 15 for task in tasks)
    assert len({frozenset(task.query) for task in tasks}) > 1


def test_the_first_rules_take_every_frame_and_need_no_annotations(root: Path) -> None:
    protocol = OrbitProtocol(root, RULES["2021"])
    assert len(protocol) == 10
    assert Counter(protocol.task(0).query_parts)[clutter("P177", "bag")] == 230
    assert Counter(protocol.task(0).query_parts)[clutter("P177", "keys", 1)] == 49
    assert any("a clip is one frame" in note for note in protocol.notes)


def test_a_folder_of_users_will_do_as_the_root(root: Path) -> None:
    assert OrbitProtocol(root / "test").task(3) == OrbitProtocol(root.resolve()).task(3)


def test_objects_without_a_side_and_users_with_one_object_are_left_out_and_named(
    tmp_path: Path,
) -> None:
    users = {
        "P100": {"mug": {"clean": [1], "clutter": [60]}},
        "P177": {**TWO, "mug": {"clean": [3]}, "pen": {"clutter": [60]}, "cup": {"clean": [0]}},
    }
    protocol = OrbitProtocol(draw_orbit(tmp_path, {"test": users}))
    assert tuple(protocol.groups) == ("P177",)
    assert protocol.task(0).class_names == ("bag", "keys")
    left_out = [note for note in protocol.notes if "left out" in note]
    assert left_out == [
        "P177/cup left out: no clean videos with enough frames.",
        "P177/mug left out: no clutter videos with enough frames.",
        "P177/pen left out: no clean videos with enough frames.",
        "User P100 left out: 1 usable object; a task needs 2.",
    ]


class TestBadInput:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return draw_orbit(tmp_path, {"test": {"P177": TWO}})

    @pytest.fixture
    def file(self, root: Path) -> Path:
        return root / "annotations/test" / f"{clutter('P177', 'keys')}.json"

    def test_a_folder_that_is_not_orbit(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="not ORBIT"):
            OrbitProtocol(tmp_path)

    def test_a_mode_that_is_not_there(self, root: Path) -> None:
        with pytest.raises(UsageError, match="no 'validation' folder with users, only test"):
            OrbitProtocol(root, mode="validation")

    def test_no_annotations_but_all_frames_wanted(self, root: Path) -> None:
        (root / "annotations").rename(root / "elsewhere")
        with pytest.raises(FewshotError, match=r"annotations/test: no annotations.*--all-frames"):
            OrbitProtocol(root)
        protocol = OrbitProtocol(root, all_frames=True)
        assert len(protocol.task(0).query) == 104
        assert any("do not show the object" in note for note in protocol.notes)

    def test_a_missing_annotation_file(self, root: Path, file: Path) -> None:
        file.unlink()
        with pytest.raises(FewshotError) as raised:
            OrbitProtocol(root)
        assert str(raised.value).startswith(f"{file}: missing.")
        assert "--all-frames" in str(raised.value)

    @pytest.mark.parametrize("content", [b'{"a": ', b"\xff\xfe\x00", b"[" * 100_000, b""])
    def test_damaged_json(self, root: Path, file: Path, content: bytes) -> None:
        file.write_bytes(content)
        with pytest.raises(FewshotError, match=r"keys.*\.json: not valid JSON"):
            OrbitProtocol(root)

    @pytest.mark.parametrize("content", ["[]", '{"x": 1}', '{"%s-00001.jpg": 3}'])
    def test_json_of_another_kind(self, root: Path, file: Path, content: str) -> None:
        file.write_text(content.replace("%s", file.stem))
        with pytest.raises(FewshotError, match=r"keys.*\.json: no"):
            OrbitProtocol(root)

    def test_annotations_of_fewer_frames(self, root: Path, file: Path) -> None:
        annotate(root, "test", file.stem, 51)
        with pytest.raises(FewshotError, match=r"-00052\.jpg.*same release"):
            OrbitProtocol(root)

    def test_no_user_left(self, tmp_path: Path) -> None:
        root = draw_orbit(
            tmp_path, {"test": {"P1": {"mug": {"clean": [1], "clutter": [50]}, "pen": {}}}}
        )
        with pytest.raises(FewshotError, match=r"no user has 2 objects.*P1/pen left out"):
            OrbitProtocol(root)

    def test_no_tasks(self, root: Path) -> None:
        with pytest.raises(UsageError, match="--tasks 0"):
            OrbitProtocol(root, tasks_per_user=0)
