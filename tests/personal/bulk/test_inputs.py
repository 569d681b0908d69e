"""Files to classify: what is found, in which order, and how far ahead."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.folders import Skipped
from fewshot_lite.personal.bulk import find_photos, read_paths


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("in/b/2.jpg", "in/a/1.jpg", "in/a/notes.txt", "in/z.png", "one.jpg", "out/x.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*names: str, leave_out: tuple[str, ...] = ()) -> list[str]:
    items = find_photos(map(Path, names), leave_out=list(map(Path, leave_out)))
    return [
        f"{item.path}: {item.reason}" if isinstance(item, Skipped) else str(item) for item in items
    ]


def test_photos_as_given_and_those_of_folders_sorted(home: Path) -> None:
    assert found("one.jpg", "in", "gone.jpg", "empty") == [
        "one.jpg",
        "in/a/1.jpg",
        "in/a/notes.txt: not a photo",
        "in/b/2.jpg",
        "in/z.png",
        "gone.jpg",
        "empty: no photos in this folder",
    ]


def test_what_the_run_writes_is_left_out(home: Path) -> None:
    (home / "link").symlink_to("in/b")
    assert found("in", leave_out=("link", "in/a/notes.txt")) == ["in/a/1.jpg", "in/z.png"]
    why = "written by this run, or in the folder that it sorts into"
    assert found("out/x.jpg", "out", leave_out=("out",)) == [f"out/x.jpg: {why}", f"out: {why}"]
    assert found("output.jpg", leave_out=("out",)) == ["output.jpg"]


def test_folders_are_entered_when_their_turn_comes(home: Path) -> None:
    items = find_photos([Path("in"), Path("out")])
    first = list(islice(items, 3))
    assert len(first) == 3
    (home / "in" / "zz").mkdir()  # after the names of `in` were read
    (home / "out" / "y.jpg").write_bytes(b"x")  # before those of `out` were
    (home / "in" / "z.png").unlink()
    assert [str(item) for item in items] == ["in/z.png", "out/x.jpg", "out/y.jpg"]


def test_a_folder_that_goes_away_is_named(home: Path) -> None:
    items = find_photos([Path("in")])
    next(items)
    (home / "in/b/2.jpg").unlink()
    (home / "in/b").rmdir()
    reasons = [item.reason for item in items if isinstance(item, Skipped)]
    assert len(reasons) == 2  # notes.txt, and b, which is no photo any more


def test_paths_are_taken_one_by_one() -> None:
    taken = 0

    def paths() -> Iterator[Path]:
        nonlocal taken
        for taken in range(1, 100_001):
            yield Path(f"{taken}.jpg")

    assert len(list(islice(find_photos(paths()), 10))) == 10
    assert taken == 10


@pytest.mark.parametrize(
    ("text", "null", "paths"),
    [
        (b"a.jpg\nb c.jpg\n", False, ["a.jpg", "b c.jpg"]),
        (b"a.jpg\r\n\r\n\n b.jpg", False, ["a.jpg", " b.jpg"]),
        (b"a\nb.jpg\0c.jpg\0", True, ["a\nb.jpg", "c.jpg"]),
        (b"\0\0c.jpg", True, ["c.jpg"]),
        ("ä.jpg\n".encode(), False, ["ä.jpg"]),
    ],
)
def test_paths_of_a_stream(text: bytes, null: bool, paths: list[str]) -> None:
    assert list(map(str, read_paths(io.BytesIO(text), null=null))) == paths


@pytest.mark.skipif(os.name == "nt", reason="names there are Unicode")
def test_a_name_that_is_no_text_is_the_file_of_that_name() -> None:
    (path,) = read_paths(io.BytesIO(b"\xff\xfe.jpg\n"))
    assert os.fsencode(path) == b"\xff\xfe.jpg"


@pytest.mark.parametrize("null", [True, False])
@pytest.mark.parametrize("size", [65_534, 65_536, 200_000])
def test_paths_across_blocks(null: bool, size: int) -> None:
    names = [f"{i:07d}.jpg" for i in range(size // 12)]
    text = "".join(name + ("\0" if null else "\n") for name in names)
    assert list(map(str, read_paths(io.BytesIO(text.encode()), null=null))) == names


@pytest.mark.parametrize(
    ("text", "null", "message"),
    [
        (b"", False, "^stdin: no paths came"),
        (b"\n\n", False, "^stdin: no paths came"),
        (b"\0", True, "^stdin: no paths came"),
        (b"a.jpg\nb.jpg\0c.jpg\0", False, "^stdin: a NUL byte after 1 paths.*--null"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF" + b"x" * 100, False, "^stdin: a NUL byte after 0 paths"),
        (b"x" * 100_000, False, "^stdin: longer than any path"),
        (b"x\n" * 50_000, True, "^stdin: longer than any path"),
    ],
)
def test_a_stream_of_no_paths_is_refused(text: bytes, null: bool, message: str) -> None:
    with pytest.raises(FewshotError, match=message):
        list(read_paths(io.BytesIO(text), null=null))


def test_a_stream_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    class Folder(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            raise IsADirectoryError(21, "Is a directory")

    with pytest.raises(FewshotError, match=r"^stdin: cannot be read \(is a directory\)"):
        list(read_paths(Folder()))
