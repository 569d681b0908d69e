"""Class folders: what is put there, under which name, and that nothing else ever changes."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.personal.bulk import sorting
from fewshot_lite.personal.bulk.sorting import (
    Sorter,
    SortingProblem,
    class_of_folder,
    file_name,
    folder_names,
)
from photos import contents


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name, data in {
        "a/x.jpg": b"1",
        "b/x.jpg": b"2",
        "c/x.jpg": b"1",
        "y.tar.png": b"3",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        os.utime(folder / name, (10, 10))
    return folder


def sort_all(photos: Path, into: Path, *, link: bool = False) -> Sorter:
    sorter = Sorter(into, ["mug"], link=link)
    for path in sorted(photos.rglob("*.*g")):
        sorter.place(path, "mug" if path.name == "x.jpg" else "unknown")
    return sorter


def test_photos_are_copied_once_with_numbers_where_names_clash(
    photos: Path, tmp_path: Path
) -> None:
    before = contents(photos)
    sorter = sort_all(photos, tmp_path / "out")
    expected = {"mug/x.jpg": b"1", "mug/x-2.jpg": b"2", "unknown/y.tar.png": b"3"}
    assert contents(tmp_path / "out") == expected
    assert (sorter.placed, sorter.left) == (3, 1)  # c/x.jpg is a/x.jpg again
    assert (tmp_path / "out/mug/x.jpg").stat().st_mtime == 10
    assert contents(photos) == before
    again = sort_all(photos, tmp_path / "out")
    assert contents(tmp_path / "out") == expected
    assert (again.placed, again.left) == (0, 4)


def test_what_is_there_is_never_overwritten(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "mug").mkdir(parents=True)
    for name in ("x.jpg", "x-2.jpg"):
        (tmp_path / "out" / "mug" / name).write_bytes(b"mine")
    (tmp_path / "out" / "mug" / "x-3.jpg").symlink_to("nowhere")
    sort_all(photos, tmp_path / "out")
    found = contents(tmp_path / "out" / "mug")
    assert found["x.jpg"] == found["x-2.jpg"] == b"mine"
    assert (found["x-4.jpg"], found["x-5.jpg"]) == (b"1", b"2")
    assert (tmp_path / "out" / "mug" / "x-3.jpg").is_symlink()


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    for name in ("new", "theirs"):
        Sorter(tmp_path / name, ["mug"]).close()
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_links_point_at_the_photos(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sorter = sort_all(Path("photos"), Path("out"), link=True)
    assert (sorter.placed, sorter.left) == (3, 1)
    link = tmp_path / "out/mug/x-2.jpg"
    assert link.is_symlink()
    assert link.samefile(photos / "b" / "x.jpg")
    assert sort_all(Path("photos"), Path("out"), link=True).left == 4
    (photos / "b" / "x.jpg").write_bytes(b"edited")  # the link is still to this very file
    assert sort_all(Path("photos"), Path("out"), link=True).left == 4


def test_a_disk_without_hard_links(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    sort_all(photos, tmp_path / "out")
    assert set(contents(tmp_path / "out")) == {"mug/x.jpg", "mug/x-2.jpg", "unknown/y.tar.png"}


def test_a_file_that_appears_meanwhile_is_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out" / "mug" / "x.jpg"
    copy = shutil.copyfile

    def slow(source: Path, temporary: Path) -> None:
        copy(source, temporary)
        if not target.exists():
            target.write_bytes(b"theirs")

    monkeypatch.setattr(sorting.shutil, "copyfile", slow)
    placed = Sorter(tmp_path / "out", ["mug"]).place(photos / "a" / "x.jpg", "mug")
    assert contents(tmp_path / "out") == {"mug/x.jpg": b"theirs", "mug/x-2.jpg": b"1"}
    assert placed.name == "x-2.jpg"


def test_a_full_disk_ends_it_and_a_photo_that_is_gone_does_not(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sorter = Sorter(tmp_path / "out", ["mug"])
    with pytest.raises(SortingProblem, match=r"^could not be copied into .*mug \(no such file"):
        sorter.place(photos / "gone.jpg", "mug")

    def full(source: Path, temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sorting.shutil, "copyfile", full)
    with pytest.raises(FewshotError, match=r"^--sort-into .*out: could not be written \(no space"):
        sorter.place(photos / "a" / "x.jpg", "mug")
    assert contents(tmp_path / "out") == {}


def test_a_file_in_the_way_is_named(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mug").write_text("text")
    with pytest.raises(FewshotError, match=r"^--sort-into .*out: .*mug: a file, not a folder"):
        sort_all(photos, tmp_path / "out")
    with pytest.raises(FewshotError, match=r"^--sort-into .*mug: a file, not a folder"):
        Sorter(tmp_path / "out" / "mug", ["mug"])
    with pytest.raises(FewshotError, match=r"^--sort-into .*no such file or directory"):
        Sorter(tmp_path / "nowhere" / "out", ["mug"])


ODD = [
    "Schlüssel",
    "👨‍👩‍👧",
    "[red]x",
    "it's",
    "a b",
    "a/b",
    "..",
    ".",
    "",
    "/etc/x",
    "con",
    "NUL.txt",
]


def test_any_label_is_one_safe_folder_of_its_own(tmp_path: Path) -> None:
    labels = [
        *ODD,
        "a\0b",
        "a_b",
        ".git",
        "x",
        "x.",
        "x ",
        "x. .",
        "gpj.\u202egnp",
        "ä" * 200,
        "ä" * 201,
        "Mug",
        "mug",
        "unknown",
    ]
    names = folder_names([*labels, "unknown"])
    assert list(names) == labels
    for label in ("Schlüssel", "[red]x", "it's", "a b", "Mug", "unknown"):
        assert names[label] == label
    assert names["mug"] == "mug-2"
    assert (names["a_b"], names["a/b"]) == ("a_b", "a_b-2")  # a name that will do is kept
    assert [names[label] for label in ("x.", "x ", "x. .")] == ["x-2", "x-3", "x-4"]
    assert len({name.casefold() for name in names.values()}) == len(labels)
    for name in names.values():
        (tmp_path / name).mkdir()
        assert not name.startswith(".")
        assert not name.endswith((".", " "))  # Windows drops them: two classes in one folder
        assert "\u202e" not in name
        assert name.lower() not in ("con", "nul.txt")
    assert len(list(tmp_path.iterdir())) == len(labels)
    assert {path.parent for path in tmp_path.rglob("*")} == {tmp_path}


def test_folders_are_known_again_by_their_names() -> None:
    classes = ["a/b", "a_b", "AC/DC", "..", "mug"]
    for name, folder in folder_names([*classes, "unknown"]).items():
        assert class_of_folder(folder, classes) == name
    assert class_of_folder("new", classes) == "new"
    assert class_of_folder("AC_DC", ["AC/DC", "AC_DC"]) == "AC_DC"


def test_names_are_cut_where_they_would_be_too_long() -> None:
    photo = Path("x" * 251 + ".jpg")
    assert file_name(photo, before="001 ") == "001 " + "x" * 247 + ".jpg"
    assert file_name(photo, after="-12") == "x" * 248 + "-12.jpg"
    assert file_name(Path("ä" * 125 + ".jpg"), before="0001 ") == "0001 " + "ä" * 123 + ".jpg"
    assert file_name(Path("a.jpg"), before="001 ") == "001 a.jpg"


def test_photos_of_one_long_name_are_all_copied(tmp_path: Path) -> None:
    sorter = Sorter(tmp_path / "out", ["mug"])
    for folder in "ab":
        photo = tmp_path / folder / ("x" * 251 + ".jpg")
        photo.parent.mkdir()
        photo.write_text(folder)
        sorter.place(photo, "mug")
    assert sorted(contents(tmp_path / "out" / "mug").values()) == [b"a", b"b"]


def test_a_class_called_unknown_otherwise_spelled_keeps_its_folder() -> None:
    assert folder_names(["Unknown", "unknown"]) == {"Unknown": "Unknown", "unknown": "unknown-2"}


def test_many_photos_of_one_name_are_each_read_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, reads = 40, 0
    photos = [tmp_path / str(i) / "x.jpg" for i in range(number)]
    for i, photo in enumerate(photos):
        photo.parent.mkdir()
        photo.write_bytes(b"%02d" % i)
    digest = sorting._digest

    def counted(photo: Path) -> bytes | None:
        nonlocal reads
        reads += 1
        return digest(photo)

    monkeypatch.setattr(sorting, "_digest", counted)
    for left in (0, number):
        sorter = Sorter(tmp_path / "out", ["mug"])
        found = [sorter.place(photo, "mug").read_bytes() for photo in photos]
        assert found == [photo.read_bytes() for photo in photos]
        assert sorter.left == left
    assert reads < 5 * number


def test_a_pipe_in_the_way_is_not_read(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "mug").mkdir(parents=True)
    os.mkfifo(tmp_path / "out" / "mug" / "x.jpg")
    sort_all(photos, tmp_path / "out")
    assert (tmp_path / "out" / "mug" / "x-2.jpg").read_bytes() == b"1"
