"""`--report` of `adapt` and `classify`, as a user has it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import Run, is_one_clear_line
from fewshot_lite.personal.personal_model import PersonalModel
from pages import read_page
from photos import contents, draw_classes, tiny_model


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and a personal model."""
    home = tmp_path_factory.mktemp("files")
    model = tiny_model()
    model.save(home / "base.safetensors")
    model.adapt(draw_classes(home / "t", {"mug": 3, "keys": 3})).save(home / "made.safetensors")
    return home


@pytest.fixture
def home(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("base", "made"):
        (tmp_path / f"{name}.safetensors").symlink_to(files / f"{name}.safetensors")
    draw_classes(tmp_path / "things", {"mug": 3, "keys": 3})
    monkeypatch.chdir(tmp_path)
    return tmp_path


MADE = ("-m", "made.safetensors")
ADAPT = ("adapt", "things", "--base", "base.safetensors")


@pytest.mark.slow
def test_both_reports(run: Run, home: Path) -> None:
    outcome = run(*ADAPT, "--report", "a.html")
    assert outcome.code == 0
    assert "Report: a.html\n" in outcome.out
    page = read_page(Path("a.html").read_text())
    assert len(page.all("img")) >= 6
    assert "things" in page.text
    assert len(PersonalModel.load().thumbnails) == 6
    outcome = run("classify", "things", "--report", "c.html")
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 6  # answers as text all the same
    assert outcome.err == (
        "Wrote c.html: 6 files, 6 classified.\n"
        "The model was adapted to 6 of these: they are no test of it.\n"
    )
    assert "Most like" in read_page(Path("c.html").read_text()).text
    outcome = run("classify", "things", "--report", "c.html", "--json", "--force")
    assert len(outcome.json) == 6


@pytest.mark.slow
def test_without_thumbnails_the_report_has_them_all_the_same(run: Run, home: Path) -> None:
    outcome = run(*ADAPT, "--report", "a.html", "--no-thumbnails", "--json")
    assert outcome.json["report"] == "a.html"
    assert len(read_page(Path("a.html").read_text()).all("img")) >= 6
    assert PersonalModel.load().thumbnails == ()
    run("classify", "things/mug/00.png", "--report", "c.html")
    page = read_page(Path("c.html").read_text())
    assert len(page.all("img")) == 1
    assert "Like mug/00.png" in page.text


def test_one_file_that_fails_is_on_the_report(run: Run, home: Path) -> None:
    Path("bad.jpg").write_text("text")
    outcome = run("classify", "bad.jpg", *MADE, "--report", "c.html")
    assert outcome.code == 1
    assert "not an image" in read_page(Path("c.html").read_text()).text


BAD = [
    ("r.txt", "--report r.txt: a page for a browser. End it in .html"),
    ("things/mug/00.png --force", "--report things/mug/00.png: a page for a browser"),
    ("-", "--report -: a page for a browser"),
    ("old.html", "--report old.html: exists already. Use --force"),
    ("gone/r.html", "--report gone/r.html: there is no folder"),
    ("folder.html", "--report folder.html: a folder"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_bad_names_are_one_clear_line(run: Run, home: Path, line: str, message: str) -> None:
    Path("old.html").write_text("old")
    Path("folder.html").mkdir()
    before = contents(home)
    words = ("--report", *line.split())
    is_one_clear_line(run(*ADAPT, "-o", "new.safetensors", *words), 2, message)
    is_one_clear_line(run("classify", "things", *MADE, *words), 2, message)
    assert contents(home) == before


def test_other_outputs_are_not_overwritten(run: Run, home: Path) -> None:
    outcome = run(*ADAPT, "-o", "x.html", "--report", "./x.html")
    is_one_clear_line(outcome, 2, "--output x.html: the name of a page")
    Path("m.html").write_bytes(Path("made.safetensors").read_bytes())
    outcome = run("classify", "things", "-m", "m.html", "--report", "m.html", "--force")
    is_one_clear_line(outcome, 2, "--report m.html: the same file as the model")
    outcome = run("classify", "things", "-m", "m.html", "--report", "a.html", "--csv", "a.html")
    is_one_clear_line(outcome, 2, "--csv a.html: the name of a page")
    Path("photo.html").write_bytes(Path("things/mug/00.png").read_bytes())
    outcome = run("classify", "photo.html", "-m", "m.html", "--report", "photo.html", "--force")
    is_one_clear_line(outcome, 2, "--report photo.html: the same file as photo.html")


def test_reports_are_imported_without_torch() -> None:
    code = (
        "import sys, json, fewshot_lite.personal.report.classifying;"
        "print(json.dumps('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False
