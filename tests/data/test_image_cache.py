"""The cache on disk: built once, right or built again, whole or not there."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.data import image_cache
from fewshot_lite.data.image_cache import CachedImages, cached_images, check_cache_folder
from fewshot_lite.data.store import ImageStore, decode
from fewshot_lite.images.folders import ImageFolder, scan_classes
from photos import SIZE, classes, contents, draw_classes


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    folder = draw_classes(tmp_path / "shapes", classes(3, photos=4))
    (folder / "thing 1" / "02.png").write_bytes(b"no photo")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "cache"
    home.mkdir()
    return home


def store_of(folder: Path, data: Path, **options: Any) -> ImageStore:
    images = scan_classes(data)
    return ImageStore(images.paths, SIZE, cached=cached_images(folder, images, SIZE, **options))


def data_file(folder: Path) -> Path:
    (found,) = folder.glob("*.uint8")
    return found


def test_images_are_those_of_the_photos_and_are_read_once(shapes: Path, folder: Path) -> None:
    done: list[int] = []
    expected, problems = decode(scan_classes(shapes).paths, SIZE)
    first = store_of(folder, shapes, on_done=done.append)
    assert done == list(range(1, 13))
    for store in (first, store_of(folder, shapes, on_done=done.append)):
        assert store.kept
        assert store.problems == problems == {6: "not an image, or badly damaged"}
        assert torch.equal(store.read(range(12))[0], expected)
        with pytest.raises(FewshotError, match=r"02\.png: not an image"):
            store[[6]]
    assert len(done) == 12
    names = {name.rpartition(".")[2] for name in contents(folder)}
    assert names == {"uint8", "json"}
    assert data_file(folder).stat().st_size == 12 * 3 * SIZE * SIZE


def test_what_is_done_to_images_does_not_reach_the_file(shapes: Path, folder: Path) -> None:
    store = store_of(folder, shapes)
    before = contents(folder)
    store[[0]].zero_()
    assert store[[0]].any()
    assert contents(folder) == before


def test_a_store_that_is_sent_maps_the_file_again(shapes: Path, folder: Path) -> None:
    store = store_of(folder, shapes)
    sent = pickle.dumps(store)
    assert len(sent) < data_file(folder).stat().st_size
    assert torch.equal(pickle.loads(sent)[[0, 3]], store[[0, 3]])


def test_sizes_classes_and_places_have_files_of_their_own(
    shapes: Path, folder: Path, tmp_path: Path
) -> None:
    data = scan_classes(shapes)
    shutil.copytree(shapes, tmp_path / "other" / "shapes")
    files = {
        cached_images(folder, data, SIZE).file,
        cached_images(folder, data, 16).file,
        cached_images(folder, data.select({"thing 0", "thing 2"}), SIZE).file,
        cached_images(folder, scan_classes(tmp_path / "other" / "shapes"), SIZE).file,
    }
    assert len(files) == 4
    assert all(file.exists() for file in files)


def test_how_the_folder_is_typed_does_not_matter(
    shapes: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    cached_images(folder, scan_classes(shapes), SIZE)
    monkeypatch.chdir(shapes.parent)
    cached_images(folder, scan_classes(Path("shapes")), SIZE, on_done=done.append)
    assert not done


def change(shapes: Path, how: str) -> None:
    photo = shapes / "thing 2" / "01.png"
    if how == "touched":
        os.utime(photo, (1, 1))
    elif how == "replaced":
        photo.write_bytes((shapes / "thing 0" / "00.png").read_bytes())
    elif how == "gone":
        photo.unlink()
    else:
        shutil.copy(photo, photo.with_name("99.png"))


@pytest.mark.parametrize("how", ["touched", "replaced", "gone", "more"])
def test_photos_that_changed_are_read_anew_and_the_old_file_goes(
    shapes: Path, folder: Path, how: str
) -> None:
    store_of(folder, shapes)
    change(shapes, how)
    notices: list[str] = []
    store = store_of(folder, shapes, notify=notices.append)
    assert len(notices) == 1
    assert "photos changed since" in notices[0]
    assert torch.equal(store.read(range(len(store)))[0], decode(store.paths, SIZE)[0])
    assert data_file(folder).exists()  # one alone
    store_of(folder, shapes, notify=notices.append)
    assert len(notices) == 1


def damage(folder: Path, how: str) -> None:
    file = data_file(folder)
    (index,) = folder.glob("*.json")
    content = bytearray(file.read_bytes())
    if how == "cut off":
        file.write_bytes(content[:-1])
    elif how == "missing":
        file.unlink()
    elif how == "flipped":
        content[5000] ^= 1
        file.write_bytes(content)
    elif how == "no json":
        index.write_text("{")
    elif how == "other json":
        index.write_text('["format"]')
    else:
        index.write_text(json.dumps({**json.loads(index.read_text()), "checksums": ["x"]}))


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("cut off", "cut off"),
        ("missing", "missing"),
        ("flipped", "images are damaged"),
        ("no json", "index is damaged"),
        ("other json", "index is damaged"),
        ("checksums", "index is damaged"),
    ],
)
def test_damage_is_mended_with_a_notice(shapes: Path, folder: Path, how: str, why: str) -> None:
    store_of(folder, shapes)
    whole = contents(folder)
    damage(folder, how)
    notices: list[str] = []
    store_of(folder, shapes, notify=notices.append)
    assert len(notices) == 1
    assert why in notices[0]
    assert contents(folder) == whole


def test_what_a_killed_run_left_is_cleared_away(shapes: Path, folder: Path) -> None:
    name = cached_images(folder, scan_classes(shapes), SIZE).file.name
    whole = contents(folder)
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / f".{name.rpartition('-')[0]}-x1y2").write_bytes(b"half")
    (folder / ".other-32px-00000000-x1y2").write_bytes(b"another data set's")
    store_of(folder, shapes)
    assert set(contents(folder)) == {*whole, ".other-32px-00000000-x1y2"}


def test_a_full_disk_is_one_line_and_leaves_nothing(
    shapes: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda path: usage(9, 9, 1000))
    with pytest.raises(FewshotError, match=r"--cache .*needs 0\.00 GiB, 0\.00 are free"):
        store_of(folder, shapes)
    assert not contents(folder)
    monkeypatch.undo()

    def full(*args: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_cache, "decode_pixels", full)
    with pytest.raises(FewshotError, match=r"^--cache .*: No space left on device\. Make room"):
        store_of(folder, shapes)
    assert not contents(folder)


def _build(folder: Path, data: ImageFolder, barrier: Any, results: Any) -> None:
    notices: list[str] = []
    done: list[int] = []
    barrier.wait()
    cached_images(folder, data, SIZE, on_done=done.append, notify=notices.append)
    results.put((len(done), len(notices)))


def test_of_two_runs_at_a_time_one_builds(shapes: Path, folder: Path) -> None:
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    barrier, results = context.Barrier(2), context.Queue()
    data = scan_classes(shapes)
    runs = [context.Process(target=_build, args=(folder, data, barrier, results)) for _ in range(2)]
    for run in runs:
        run.start()
    found = sorted(results.get(timeout=60) for _ in runs)
    for run in runs:
        run.join()
        assert run.exitcode == 0
    assert [done for done, _ in found] == [0, 12]
    assert {name.rpartition(".")[2] for name in contents(folder)} == {"uint8", "json"}


def test_without_locks_the_last_one_to_build_wins(
    shapes: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache, "_lock_file", lambda file, on_wait: False)
    data = scan_classes(shapes)
    threads = [threading.Thread(target=cached_images, args=(folder, data, SIZE)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = store_of(folder, shapes)
    assert torch.equal(store[[0, 11]], decode([data.paths[0], data.paths[11]], SIZE)[0])
    assert {name.rpartition(".")[2] for name in contents(folder)} == {"uint8", "json"}


def test_an_empty_data_set_has_an_empty_file(folder: Path, tmp_path: Path) -> None:
    data = draw_classes(tmp_path / "none", {"a": 0, "b": 0})
    (data / "a").mkdir(exist_ok=True)
    for _ in range(2):
        assert len(store_of(folder, data)) == 0


def test_folders_that_cannot_be_are_refused(tmp_path: Path) -> None:
    check_cache_folder(tmp_path / "new")
    check_cache_folder(tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--cache .*file is a file, not a folder"):
        check_cache_folder(tmp_path / "file")
    with pytest.raises(UsageError, match=r"--cache .*: there is no folder .*nowhere"):
        check_cache_folder(tmp_path / "nowhere" / "cache")


def test_the_index_says_what_it_is(shapes: Path, folder: Path) -> None:
    found = cached_images(folder, scan_classes(shapes), SIZE)
    assert isinstance(found, CachedImages)
    (index,) = folder.glob("*.json")
    described = json.loads(index.read_text())
    assert described["format"] == 1
    assert len(described["checksums"]) == found.images == 12
