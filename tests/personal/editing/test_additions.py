"""Photos to add: folders of class folders, or photos and folders of one class."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.personal.editing.additions import find_additions


@pytest.fixture
def here(tmp_path: Path) -> Path:
    for name in ("new/mug/a.jpg", "new/mug/deep/b.JPG", "new/keys/c.png", "new/keys/notes.txt",
                 "loose/d.jpg", "nested/2024/e.jpg", "nested/2025/f.jpg", "other.txt"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "new" / "hollow").mkdir()
    return tmp_path


def test_class_folders_are_taken_as_adapt_takes_them(here: Path) -> None:
    found = find_additions([here / "new"])
    assert [photo.name for photo in found.photos] == ["keys/c.png", "mug/a.jpg", "mug/deep/b.JPG"]
    assert [photo.label for photo in found.photos] == ["keys", "mug", "mug"]
    assert [photo.source.name for photo in found.photos] == ["c.png", "a.jpg", "b.JPG"]
    assert [label for label, _ in found.homes] == ["hollow", "keys", "mug"]
    assert {(s.path.name, s.reason) for s in found.skipped} == {
        ("notes.txt", "not a photo"),
        ("hollow", "no photos in this folder"),
    }


def test_an_archive_is_taken_as_its_folder(here: Path) -> None:
    with zipfile.ZipFile(here / "new.zip", "w") as archive:
        for path in (here / "new").rglob("*"):
            archive.write(path, f"things/{path.relative_to(here / 'new')}")
    found, folder = find_additions([here / "new.zip"]), find_additions([here / "new"])
    assert [(p.name, p.label) for p in found.photos] == [(p.name, p.label) for p in folder.photos]
    assert [label for label, _ in found.homes] == ["keys", "mug"]


def test_photos_and_folders_of_one_class(here: Path) -> None:
    found = find_additions([here / "loose", here / "new" / "mug", here / "other.txt"], "cup")
    names = ["cup/d.jpg", "cup/a.jpg", "cup/deep/b.JPG", "cup/other.txt"]
    assert [photo.name for photo in found.photos] == names
    assert {photo.label for photo in found.photos} == {"cup"}
    assert found.skipped == ()  # a file that is named itself is read, whatever its ending


@pytest.mark.parametrize(
    ("path", "name", "kind", "message"),
    [
        ("gone", None, UsageError, "gone: no such folder"),
        ("gone", "mug", UsageError, "gone: no such file or folder"),
        ("loose/d.jpg", None, UsageError, "d.jpg: a file.*--class"),
        ("loose", None, UsageError, "directly in the folder.*--class 'loose'"),
        ("empty", None, FewshotError, "no class folders"),
        ("empty", "mug", FewshotError, "empty: no photos in this folder"),
        ("new", "mug", UsageError, "--class: .*'hollow', 'keys', 'mug'.*Leave out"),
        ("nested", "mug", UsageError, "name the folders themselves"),
    ],
)
def test_what_is_of_the_other_kind(
    here: Path, path: str, name: str | None, kind: type[FewshotError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        find_additions([here / path], name)
    assert type(caught.value) is kind
