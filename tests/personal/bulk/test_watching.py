"""Photos as they arrive: each once, and only when it is whole."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fewshot_lite.images.folders import Skipped
from fewshot_lite.personal.bulk.watching import Watcher


def write(path: Path, data: bytes, age: float = 0.0) -> None:
    path.write_bytes(data)
    then = time.time() - age
    os.utime(path, (then, then))


def look(watcher: Watcher) -> list[str]:
    return [item.path.name if isinstance(item, Skipped) else item.name for item in watcher.look()]


def test_each_photo_comes_once_when_it_no_longer_grows(tmp_path: Path) -> None:
    write(tmp_path / "old.jpg", b"x", age=3600)
    write(tmp_path / "b.jpg", b"x")
    watcher = Watcher([tmp_path])
    assert look(watcher) == ["old.jpg"]
    write(tmp_path / "a.jpg", b"x")
    write(tmp_path / "b.jpg", b"xx")
    assert look(watcher) == []
    write(tmp_path / "notes.txt.part", b"x")
    assert look(watcher) == ["a.jpg", "b.jpg"]
    assert look(watcher) == []


def test_times_in_the_past_are_not_trusted_after_the_start(tmp_path: Path) -> None:
    watcher = Watcher([tmp_path])
    assert look(watcher) == []
    write(tmp_path / "a.jpg", b"x", age=3600)  # its copy may be under way
    assert look(watcher) == []
    assert look(watcher) == ["a.jpg"]


def test_a_photo_that_is_replaced_is_another_and_one_that_returns_is_not(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    write(photo, b"x", age=3600)
    watcher = Watcher([tmp_path])
    assert look(watcher) == ["a.jpg"]
    photo.rename(tmp_path / "aside")
    assert look(watcher) == []
    (tmp_path / "aside").rename(photo)
    assert [look(watcher), look(watcher)] == [[], []]
    write(photo, b"other", age=1800)
    assert [look(watcher), look(watcher), look(watcher)] == [[], ["a.jpg"], []]


def test_new_folders_are_entered_and_left_out_ones_are_not(tmp_path: Path) -> None:
    watcher = Watcher([tmp_path / "in"], leave_out=[tmp_path / "in" / "sorted"])
    for name in ("in/day", "in/sorted/mug"):
        (tmp_path / name).mkdir(parents=True)
        write(tmp_path / name / "x.jpg", b"x", age=3600)
    (item,) = watcher.look()
    assert item == tmp_path / "in/day/x.jpg"


def test_a_link_to_nowhere_is_awaited(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "b")
    watcher = Watcher([tmp_path])
    assert look(watcher) == []
    write(tmp_path / "b", b"x")
    assert [look(watcher), look(watcher)] == [[], ["a.jpg"]]


@pytest.mark.skipif(os.name == "nt", reason="needs permission for links there")
def test_a_folder_that_cannot_be_entered_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    watcher = Watcher([tmp_path / "in"])
    assert [look(watcher), look(watcher)] == [["loop"], []]


def test_a_folder_that_goes_away_is_named_once_and_may_return(tmp_path: Path) -> None:
    home = tmp_path / "in"
    home.mkdir()
    watcher = Watcher([home])
    assert look(watcher) == []
    home.rmdir()
    assert [look(watcher), look(watcher)] == [["in"], []]
    home.mkdir()
    write(home / "a.jpg", b"x")
    assert [look(watcher), look(watcher)] == [[], ["a.jpg"]]
