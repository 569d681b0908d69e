"""The whole way with a classifier that needs no network: lazily, in order, to the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.images.folders import Skipped
from fewshot_lite.personal.bulk import Outputs, Tally, classify_files, find_photos, watch_folders
from fewshot_lite.personal.prediction import Prediction
from photos import contents


class ByName:
    """Knows a photo by the first letter of its name, in batches of 4."""

    class_names = ("a", "b")

    def classify_stream(self, paths: Iterable[Path | Skipped], **_: object) -> Iterator[Prediction]:
        paths = iter(paths)
        while chunk := list(islice(paths, 4)):
            for item in chunk:
                if isinstance(item, Skipped):
                    yield Prediction(item.path, (), item.reason)
                else:
                    label = item.name[0]
                    yield Prediction(item, ((label, 1.0),), None, label not in "ab", 0.5)


NAMES = ("a1.jpg", "a2.jpg", "b1.jpg", "c1.jpg", "notes.txt")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(name)
        os.utime(folder / name, (10, 10))
    return folder


def test_everything_at_once(photos: Path, tmp_path: Path) -> None:
    outputs = Outputs(
        csv=photos / "out.csv", jsonl=tmp_path / "o.jsonl", sort_into=photos / "sorted", force=True
    )
    for placed in (3 + 1, 0):
        seen: list[Prediction] = []
        tally = classify_files(
            ByName(),
            find_photos([photos], leave_out=outputs.paths),
            outputs,
            on_prediction=lambda prediction, _, seen=seen: seen.append(prediction),  # type: ignore[misc]
        )
        assert (tally.files, tally.failed, tally.skipped) == (5, 0, 1)
        assert (tally.placed, tally.left) == (placed, 4 - placed)
        assert tally.labels == {"a": 2, "b": 1, "unknown": 1}
        assert [p.path for p in seen] == [photos / name for name in NAMES]
        assert (photos / "out.csv").read_text().count("\n") == 6
        lines = (tmp_path / "o.jsonl").read_text().splitlines()
        assert [json.loads(line)["label"] for line in lines] == ["a", "a", "b", "unknown", None]
        assert set(contents(photos / "sorted")) == {
            "a/a1.jpg",
            "a/a2.jpg",
            "b/b1.jpg",
            "unknown/c1.jpg",
        }


def test_a_photo_that_cannot_be_copied_is_a_problem_of_that_photo(tmp_path: Path) -> None:
    outputs = Outputs(jsonl=tmp_path / "o", sort_into=tmp_path / "sorted")
    tally = classify_files(ByName(), [tmp_path / "a.jpg"], outputs)
    assert (tally.failed, tally.placed) == (1, 0)
    record = json.loads((tmp_path / "o").read_text())
    assert record["label"] == "a"
    assert "could not be copied" in record["problem"]


def test_a_hundred_thousand_files_are_never_held() -> None:
    taken, most = 0, 0

    def paths() -> Iterator[Path]:
        nonlocal taken
        while taken < 100_000:
            taken += 1
            yield Path("a.jpg")

    def count(_: Prediction, tally: Tally) -> None:
        nonlocal most
        most = max(most, taken - tally.files)

    tally = classify_files(ByName(), paths(), on_prediction=count)
    assert tally.files == 100_000
    assert most < 4


def test_what_ends_it_early_leaves_no_file(photos: Path, tmp_path: Path) -> None:
    def paths() -> Iterator[Path]:
        yield from [Path("a.jpg")] * 9
        raise FewshotError("stdin: ...")

    with pytest.raises(FewshotError):
        classify_files(ByName(), paths(), Outputs(csv=tmp_path / "o", jsonl=tmp_path / "p"))
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_watching_goes_on_until_it_is_stopped(photos: Path, tmp_path: Path) -> None:
    outputs = Outputs(csv=tmp_path / "o", sort_into=photos / "sorted")
    rows: list[int] = []

    def on_prediction(prediction: Prediction, tally: Tally) -> None:
        rows.append((tmp_path / "o").read_text().count("\n"))
        if tally.files == 4:
            (photos / "new").mkdir()
            for i in range(3):
                (photos / "new" / f"b{i}.jpg").write_text(str(i))

    end = time.monotonic() + 20
    tally = watch_folders(
        ByName(),
        [photos],
        outputs,
        on_prediction=on_prediction,
        stopped=lambda: len(rows) == 7 or time.monotonic() > end,
        interval=0.01,
    )
    assert (tally.files, tally.failed, tally.placed) == (7, 0, 7)
    assert rows == [2, 3, 4, 5, 6, 7, 8]  # each is in the file at once
    assert len(contents(photos / "sorted")) == 7


def test_stopping_within_a_look_takes_no_more_photos(photos: Path) -> None:
    done = 0

    def count(_: Prediction, tally: Tally) -> None:
        nonlocal done
        done = tally.files

    for i in range(100):
        (photos / f"b{i:02d}.jpg").write_text("x")
        os.utime(photos / f"b{i:02d}.jpg", (10, 10))
    watch_folders(ByName(), [photos], on_prediction=count, stopped=lambda: done > 0)
    assert done == 4  # the batch under way


def test_only_folders_are_watched(photos: Path) -> None:
    with pytest.raises(UsageError, match=r"^--watch: .*a1.jpg is no folder"):
        watch_folders(ByName(), [photos / "a1.jpg"], stopped=lambda: True)


def test_importing_it_does_not_import_torch() -> None:
    code = "import fewshot_lite.personal.bulk, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
