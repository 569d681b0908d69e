"""`adapt` and `check` with archives and tables, and parts of photos, as a user has them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from command_line import Run, is_one_clear_line
from fewshot_lite.images.regions import Region
from fewshot_lite.personal.personal_model import PersonalModel
from photos import draw_classes, tiny_model

ADAPT = ("--base", "base.safetensors", "--json", "-o")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    tiny_model().save(path)
    return path


@pytest.fixture
def home(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "base.safetensors").symlink_to(base)
    draw_classes(tmp_path / "things", {"keys": 3, "mug": 3})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_folder_archive_and_table_adapt_alike(run: Run, home: Path) -> None:
    shutil.make_archive("things", "zip", "things")
    rows = [f"{path},{path.parent.name}" for path in sorted(Path("things").rglob("*.png"))]
    Path("labels.csv").write_text("\n".join(row.removeprefix("things/") for row in rows))
    found = {
        "folder": run("adapt", "things", *ADAPT, "a.safetensors"),
        "archive": run("adapt", "things.zip", *ADAPT, "b.safetensors"),
        "table": run("adapt", "things", "--labels", "labels.csv", *ADAPT, "c.safetensors"),
    }
    for outcome in found.values():
        assert outcome.code == 0, outcome.err
        assert outcome.json["classes"] == {"keys": 3, "mug": 3}
        assert outcome.json["quality"] == found["folder"].json["quality"]
    models = [PersonalModel.load(f"{letter}.safetensors") for letter in "abc"]
    assert (
        models[0].classify("things") == models[1].classify("things") == models[2].classify("things")
    )
    assert models[0].photos == models[1].photos == models[2].photos
    checked = run("check", "things.zip", "--json", "--image-size", 32)
    assert checked.code == 0
    assert checked.json["files"] == {"keys": 3, "mug": 3}


@pytest.mark.slow
def test_a_row_whose_file_is_missing_is_named_and_left_out(run: Run, home: Path) -> None:
    rows = "mug/00.png,mug\nmug/01.png,mug\nkeys/00.png,keys\nkeys/01.png,keys\nnone.png,keys\n"
    Path("labels.csv").write_text(rows)
    outcome = run("adapt", "things", "--labels", "labels.csv", *ADAPT, "a.safetensors")
    assert outcome.code == 0
    assert outcome.json["skipped"] == [{"path": "things/none.png", "reason": "no such file"}]
    strict = run("adapt", "things", "--labels", "labels.csv", "--strict", *ADAPT, "b.safetensors")
    assert strict.code == 1
    assert not Path("b.safetensors").exists()


def test_a_box_is_a_part_of_each_photo(run: Run, home: Path) -> None:
    tiny_model().adapt("things").save("mine.safetensors")
    photo = Path("things/mug/00.png")
    words = ("classify", photo, "--model", "mine.safetensors", "--json")
    outcome = run(*words, "--box", "4,6,20,10", "--sort-into", "sorted")
    model = PersonalModel.load("mine.safetensors")
    expected = model.classify(Region(photo, (4, 6, 20, 10)))
    assert outcome.json[0]["path"] == str(photo)
    assert outcome.json[0]["label"] == expected.label
    assert outcome.json[0]["strangeness"] == pytest.approx(expected.strangeness)
    assert outcome.json[0]["strangeness"] != pytest.approx(run(*words).json[0]["strangeness"])
    assert len(list(Path("sorted").rglob("*.png"))) == 1
    outside = run("classify", photo, "--model", "mine.safetensors", "--box", "99,0,5,5")
    is_one_clear_line(outside, 1, "the box lies outside of the photo, 32 x 32")


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "1,2,0,4", "1,2,3,-4", "nan,0,1,1", ""])
def test_boxes_that_are_none(run: Run, home: Path, box: str) -> None:
    is_one_clear_line(run("classify", "things", f"--box={box}"), 2, "--box .*: give x,y,w,h in pix")


def test_a_box_does_not_go_with_whole_photos(run: Run, home: Path) -> None:
    for flag in (["--watch"], ["--report", "r.html"]):
        outcome = run("classify", "things", "--box", "1,2,3,4", *flag)
        is_one_clear_line(outcome, 2, "--box: not with --watch or --report")
