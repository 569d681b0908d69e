"""`evaluate`, `meta-train` and `data check` on the published benchmarks, in their own formats."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from command_line import Run, is_one_clear_line
from meta_files import write_plain
from orbit_tree import TWO, draw_orbit
from photos import draw_classes, tiny_model
from vtab_files import write_lists

pytestmark = pytest.mark.slow  # seconds each, through the whole command


#: Meta-training of a second.
TRAIN = (
    *("--learner", "protonets", "--backbone", "shufflenet_v2_x0_5", "--weights", "none"),
    *("--image-size", 32, "--tasks", 2, "--tasks-per-step", 2, "--h", 4, "--precision", "float32"),
    *("--min-way", 2, "--max-way", 3, "--max-support", 9, "--max-shot", 3, "--queries", 2),
    *("--validate-every", 0),
)
QUICK = ("--tasks", 1, "--precision", "float32", "--json")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and one of each benchmark, for tests that change none of them."""
    home = tmp_path_factory.mktemp("benchmarks")
    tiny_model().save(home / "model.safetensors")
    write_plain(home / "meta", "aircraft", (5, 5, 5), [12] * 15)
    users = {"train": {"P1": TWO}, "test": {"P2": TWO}}
    draw_orbit(home / "orbit", users)
    write_lists(home / "vtab", "kitti", [n % 4 for n in range(1000)], [0, 1, 2, 3])
    draw_classes(home / "data", {"mug": 4, "keys": 4})
    return home


@pytest.mark.parametrize(("data", "group"), [("meta", "aircraft"), ("orbit", "P2")])
def test_what_is_meta_trained_on_a_benchmark_is_evaluated_on_it(
    run: Run, world: Path, tmp_path: Path, data: str, group: str
) -> None:
    model = tmp_path / "m.safetensors"
    trained = run("meta-train", world / data, "--output", model, *TRAIN)
    assert trained.code == 0, trained
    outcome = run("evaluate", model, world / data, *QUICK)
    assert outcome.code == 0, outcome
    assert [section["name"] for section in outcome.json["sections"]] == [group]


def test_vtab_is_recognised_and_said_to_be_incomplete(run: Run, world: Path) -> None:
    model = world / "model.safetensors"
    outcome = run("evaluate", model, world / "vtab", "--precision", "float32", "--json")
    assert outcome.code == 0, outcome
    assert outcome.json["protocol"] == "VTAB-v2"
    assert [section["name"] for section in outcome.json["sections"]] == ["kitti"]
    assert "17 of 18 tasks are left out" in outcome.json["notes"][0]


@pytest.mark.parametrize(
    ("data", "words", "message"),
    [
        ("meta", ["--ways", "5"], "--ways: for class folders alone; .* of Meta-Dataset"),
        ("meta", ["--orbit", "2022"], "--orbit: for ORBIT alone"),
        ("meta", ["--all-frames"], "--all-frames: for ORBIT alone"),
        ("vtab", ["--shots", "1,5"], "--shots: for class folders alone; .* of VTAB-v2"),
        ("vtab", ["--tasks", "3"], "--tasks: VTAB has one task"),
        ("vtab", ["--split", "test"], "--split: VTAB has one task"),
        ("orbit", ["--queries", "10"], "--queries: for class folders alone; .* of ORBIT"),
        ("orbit", ["--tracks", "P2"], "--tracks: for class folders alone"),
        ("data", ["--split", "test"], "--split: .* holds class folders"),
        ("data", ["--orbit", "2021"], "--orbit: .* holds class folders"),
    ],
)
def test_a_flag_that_the_protocol_does_not_have_is_refused(
    run: Run, world: Path, data: str, words: list[str], message: str
) -> None:
    outcome = run("evaluate", world / "model.safetensors", world / data, *words, "--json")
    is_one_clear_line(outcome, 2, message)
    assert outcome.out == ""


def test_orbit_without_annotations_needs_all_frames(run: Run, world: Path, tmp_path: Path) -> None:
    data = tmp_path / "orbit"
    shutil.copytree(world / "orbit" / "test", data / "test")
    model = world / "model.safetensors"
    is_one_clear_line(run("evaluate", model, data, *QUICK), 1, "no annotations.*--all-frames")
    outcome = run("evaluate", model, data, *QUICK, "--all-frames")
    assert outcome.code == 0, outcome
    assert any("do not show the object" in note for note in outcome.json["notes"])


def test_a_user_with_one_object_is_named(run: Run, world: Path, tmp_path: Path) -> None:
    data = draw_orbit(tmp_path, {"test": {"P1": {"bag": TWO["bag"]}}})
    outcome = run("evaluate", world / "model.safetensors", data, *QUICK)
    is_one_clear_line(outcome, 1, "User P1 left out: 1 usable object; a task needs 2.*data check")


def test_a_damaged_record_is_named_once_with_one_remedy(
    run: Run, world: Path, tmp_path: Path
) -> None:
    shutil.copytree(world / "meta", tmp_path / "meta")
    for number in range(10, 15):
        path = tmp_path / "meta" / "aircraft" / f"{number}.tfrecords"
        content = bytearray(path.read_bytes())
        content[300] ^= 0xFF
        path.write_bytes(content)
    outcome = run("evaluate", world / "model.safetensors", tmp_path / "meta", "--tasks", 5)
    is_one_clear_line(outcome, 1, r"tfrecords, record 1: damaged.* does not match. Get its file")


def test_check_finds_class_files_that_are_cut_off(run: Run, world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "meta", tmp_path / "meta")
    path = tmp_path / "meta" / "aircraft" / "7.tfrecords"
    path.write_bytes(path.read_bytes()[:-5])
    outcome = run("data", "check", tmp_path / "meta", "--json")
    assert outcome.code == 1
    (problem,) = outcome.json["problems"]
    assert "7.tfrecords, record 12: the file ends within it" in problem


def test_check_finds_damaged_annotations_and_users_of_two_splits(run: Run, tmp_path: Path) -> None:
    draw_orbit(tmp_path, {"train": {"P1": TWO}, "test": {"P1": TWO}})
    next((tmp_path / "annotations" / "test").glob("*clutter*")).write_text("{")
    outcome = run("data", "check", tmp_path, "--json")
    assert outcome.code == 1
    overlap, damaged = outcome.json["problems"]
    assert "test/P1: the splits overlap, this user is in train too" in overlap
    assert "not valid JSON" in damaged
