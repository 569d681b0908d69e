"""Sorted again after the model changed: own copies are known, and nobody else's are touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from command_line import Run, is_one_clear_line
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.personal.bulk.manifest import MANIFEST
from fewshot_lite.personal.bulk.sorting import Sorter
from photos import contents, draw_classes, tiny_model


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.jpg").write_bytes(b"x")
    return tmp_path / "in" / "x.jpg"


def sort(tmp_path: Path, photo: Path, label: str, **how: bool) -> Sorter:
    sorter = Sorter(tmp_path / "out", ["a", "b", "c"], **how)
    sorter.place(photo, label)
    sorter.close()
    return sorter


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*.jpg")}


@pytest.mark.parametrize("link", [False, True])
def test_a_copy_in_another_class_is_named_and_moved_when_asked(
    tmp_path: Path, photo: Path, link: bool
) -> None:
    sort(tmp_path, photo, "a", link=link)
    again = sort(tmp_path, photo, "a", link=link)
    assert (again.placed, again.left, again.in_two_classes) == (0, 1, 0)
    changed = sort(tmp_path, photo, "b", link=link)
    assert names(tmp_path / "out") == {"a/x.jpg", "b/x.jpg"}
    assert changed.twice == [(tmp_path / "out/b/x.jpg", tmp_path / "out/a/x.jpg")]
    moved = sort(tmp_path, photo, "b", link=link, resort=True)
    assert names(tmp_path / "out") == {"b/x.jpg"}
    assert (moved.placed, moved.left, moved.moved) == (0, 1, 1)
    moved = sort(tmp_path, photo, "c", link=link, resort=True)
    assert names(tmp_path / "out") == {"c/x.jpg"}
    assert (moved.placed, moved.moved, moved.in_two_classes) == (0, 1, 0)
    assert (tmp_path / "out/c/x.jpg").is_symlink() == link
    assert (tmp_path / "out/c/x.jpg").read_bytes() == photo.read_bytes() == b"x"


def folders(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


@pytest.mark.parametrize("link", [False, True])
def test_class_folders_that_moving_emptied_are_removed_and_no_others(
    tmp_path: Path, photo: Path, link: bool
) -> None:
    other = photo.with_name("y.jpg")
    other.write_bytes(b"y")
    sort(tmp_path, photo, "a", link=link)
    sort(tmp_path, photo, "b", link=link)
    (tmp_path / "out/theirs").mkdir()
    sort(tmp_path, photo, "c", link=link, resort=True)
    assert folders(tmp_path / "out") == {"c", "theirs"}  # one copy moved, the other superfluous
    (tmp_path / "out/c/.notes").write_bytes(b"theirs")
    sort(tmp_path, photo, "a", link=link, resort=True)
    assert folders(tmp_path / "out") == {"a", "c", "theirs"}
    assert (tmp_path / "out/c/.notes").read_bytes() == b"theirs"
    sorter = Sorter(tmp_path / "out", ["a", "b", "c"], link=link, resort=True)
    sorter.place(photo, "b")
    sorter.place(other, "a")  # emptied by the first, and needed by the second
    sorter.close()
    assert names(tmp_path / "out") == {"a/y.jpg", "b/x.jpg"}


def test_what_is_not_our_own_or_was_changed_is_left(tmp_path: Path, photo: Path) -> None:
    sort(tmp_path, photo, "a")
    (tmp_path / "out/a/theirs.jpg").write_bytes(b"theirs")
    (tmp_path / "out/b").mkdir()
    (tmp_path / "out/b/x.jpg").write_bytes(b"another photo of this name")
    moved = sort(tmp_path, photo, "b", resort=True)
    assert moved.moved == 1
    assert contents(tmp_path / "out") == {
        "a/theirs.jpg": b"theirs",
        "b/x.jpg": b"another photo of this name",
        "b/x-2.jpg": b"x",
    }
    (tmp_path / "out/b/x-2.jpg").write_bytes(b"edited")
    sort(tmp_path, photo, "c", resort=True)
    assert names(tmp_path / "out") == {"a/theirs.jpg", "b/x.jpg", "b/x-2.jpg", "c/x.jpg"}


def test_a_copy_that_somebody_put_there_makes_ours_superfluous(tmp_path: Path, photo: Path) -> None:
    sort(tmp_path, photo, "a")
    (tmp_path / "out/b").mkdir()
    (tmp_path / "out/b/x.jpg").write_bytes(b"x")
    sort(tmp_path, photo, "b", resort=True)
    assert contents(tmp_path / "out") == {"b/x.jpg": b"x"}


def test_a_photo_that_was_replaced_is_another_and_loses_no_copy(
    tmp_path: Path, photo: Path
) -> None:
    sort(tmp_path, photo, "a")
    photo.write_bytes(b"new")
    sort(tmp_path, photo, "b")
    moved = sort(tmp_path, photo, "b", resort=True)
    assert (moved.left, moved.moved) == (1, 0)
    assert contents(tmp_path / "out") == {"a/x.jpg": b"x", "b/x.jpg": b"new"}


def test_names_of_any_bytes_are_known_again(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/\xff'\n.jpg"))
    odd.write_bytes(b"odd")
    sort(tmp_path, odd, "a")
    assert sort(tmp_path, odd, "b", resort=True).moved == 1


def test_a_damaged_list_is_one_clear_line(tmp_path: Path, photo: Path) -> None:
    sort(tmp_path, photo, "a")
    (tmp_path / "out" / MANIFEST).write_bytes(b"no database at all" * 100)
    with pytest.raises(FewshotError, match=rf"--sort-into .*{MANIFEST}, cannot be used .*Remove"):
        sort(tmp_path, photo, "b")
    (tmp_path / "out" / MANIFEST).unlink()
    assert sort(tmp_path, photo, "b", resort=True).moved == 0
    assert names(tmp_path / "out") == {"a/x.jpg", "b/x.jpg"}


@pytest.mark.slow
def test_the_command_says_what_lies_twice_and_the_totals(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_classes(tmp_path / "mine", {"mug": 3, "keys": 3})
    draw_classes(tmp_path / "things", {"mug": 3, "keys": 3}, seed=1)
    model = tiny_model().adapt("mine")
    model.save("personal.safetensors")
    words = (
        "classify",
        "things",
        "--no-reject",
        "--sort-into",
        "sorted",
        "--csv",
        "a.csv",
        "--force",
    )
    first = run(*words)
    assert first.code == 0, first.err
    labels = [answer.label for answer in model.classify("things", reject=None)]
    assert "Totals: " in first.err
    assert all(f"{name} {labels.count(name)}" in first.err for name in set(labels))
    Path("personal.safetensors").unlink()
    turned = {"mug": "keys", "keys": "mug"}
    files = sorted(Path("things").rglob("*.png"))
    swapped = tiny_model().adapt(files, [turned[file.parent.name] for file in files])
    swapped.save("personal.safetensors")
    again = run(*words)
    assert again.err.count("In two classes:") == 6
    assert "--resort moves the earlier copies" in again.err
    moved = run(*words, "--resort")
    assert "Moved 6 earlier copies" in moved.err
    assert len(list(Path("sorted").rglob("*.png"))) == 6
    is_one_clear_line(
        run("classify", "things", "--resort"), 2, "--resort: for --sort-into DIR alone"
    )
