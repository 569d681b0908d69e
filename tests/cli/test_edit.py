"""`add`, `remove` and `rename` on the command line: what they print, refuse and leave on disk."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from command_line import Run, is_one_clear_line
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.quality import Suspicion, assess
from photos import contents, draw_classes, tiny_model

#: What must not change unless asked to.
MODEL = "mine.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two classes, and folders of more; copied for each test."""
    here = tmp_path_factory.mktemp("made")
    draw_classes(here / "things", {"mug": 2, "keys": 2})
    base = tiny_model()
    base.save(here / "base.safetensors")
    base.adapt(here / "things").save(here / MODEL)
    draw_classes(here / "more", {"keys": 2, "pen": 1}, seed=1)
    draw_classes(here / "photos", {".": 2}, seed=2)
    draw_classes(here / "twin", {"MUG": 1}, seed=3)
    draw_classes(here / "broken", {"pen": 1}, seed=4)
    (here / "broken" / "pen" / "00.png").write_text("text")
    draw_classes(here / "half", {"pen": 2}, seed=5)
    (here / "half" / "pen" / "01.png").write_bytes(b"")
    (here / "empty").mkdir()
    (here / "hollow" / "mug").mkdir(parents=True)
    (here / "random.safetensors").write_bytes(bytes(range(256)) * 4)
    (here / "mine.onnx").write_bytes(b"onnx")
    return here


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def classes(path: Path) -> dict[str, int]:
    personal = PersonalModel.load(path)
    labels = [personal.class_names[k] for k in personal.labels.tolist()]
    return {name: labels.count(name) for name in personal.class_names}


def test_add_writes_a_changed_copy_and_says_what_changed(run: Run, here: Path) -> None:
    before = (here / MODEL).read_bytes()
    outcome = run("add", MODEL, "more", "-o", "new.safetensors")
    assert outcome.code == 0, outcome
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[0] == ["class", "photos", "change"]
    assert lines[1:4] == [["keys", "4", "+2"], ["mug", "2"], ["pen", "1", "new"]]
    assert outcome.out.splitlines()[4] == "7 photos of 3 classes: new.safetensors"
    assert "classify photo.jpg --model new.safetensors" in outcome.out
    assert (here / MODEL).read_bytes() == before
    assert classes(here / "new.safetensors") == {"keys": 4, "mug": 2, "pen": 1}
    again = run("add", "new.safetensors", "more", "photos/00.png", "--class", "cup", "--force")
    assert again.code == 2
    json = run("add", "new.safetensors", "photos", "--class", "cup", "--force", "--json").json
    assert json["classes"] == {"cup": 2, "keys": 4, "mug": 2, "pen": 1}
    assert (json["changes"], json["new"], json["film_share"]) == ({"cup": 2}, ["cup"], 4 / 9)
    assert json["worth_readapting"]
    info = run("info", "new.safetensors").out
    assert "cup (2), keys (4), mug (2), pen (1)" in info
    changed = [line.split()[2:] for line in info.splitlines() if line.startswith("changed")]
    assert changed == [["add", "keys", "(2),", "pen", "(1)"], ["add", "cup", "(2)"]]


def test_duplicates_are_named_and_no_failure(run: Run, here: Path) -> None:
    shutil.copy(here / "things" / "mug" / "00.png", here / "more" / "pen" / "again.png")
    outcome = run("add", MODEL, "more", "--force")
    assert outcome.code == 0
    assert "Not added more/pen/again.png: the model has it already" in outcome.err
    assert "as mug/00.png of 'mug'" in outcome.err
    assert classes(here / MODEL)["pen"] == 1
    is_one_clear_line(run("add", MODEL, "more", "--force"), 1, "all 4 photos .* another class, re")


def test_unreadable_photos_are_skipped_unless_strict(run: Run, here: Path) -> None:
    before = (here / MODEL).read_bytes()
    is_one_clear_line(
        run("add", MODEL, "half", "--force", "--strict"), 1, "half/pen/01.png: .*--str"
    )
    assert (here / MODEL).read_bytes() == before
    outcome = run("add", MODEL, "half", "--force", "--json")
    assert outcome.code == 0
    assert outcome.json["quality"]["photos"] == 4
    assert [item["path"] for item in outcome.json["skipped"]] == ["half/pen/01.png"]
    assert "Skipped half/pen/01.png: " in outcome.err  # beside JSON alone on stdout
    assert classes(here / MODEL)["pen"] == 1
    outcome = run("add", MODEL, "more", "hollow", "--force")
    assert outcome.code == 0
    assert "Skipped hollow/mug: no photos in this folder" in outcome.err


def test_it_says_when_adapting_anew_may_pay(run: Run, here: Path) -> None:
    quiet = run("add", MODEL, "more", "--force")
    assert "may pay" not in quiet.err
    outcome = run("add", MODEL, "photos", "--class", "cup", "--force")
    assert "Adapting anew may pay: FiLM is from 44% of these photos" in outcome.err


def test_remove_and_rename(run: Run, here: Path) -> None:
    assert run("add", MODEL, "more", "--force").code == 0
    outcome = run("remove", MODEL, "mug", "--photo", "keys/00.png", "--force")
    assert outcome.code == 0, outcome
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[1:4] == [["keys", "3", "-1"], ["pen", "1"], ["mug", "0", "gone"]]
    outcome = run("rename", MODEL, "pen", "[red] pén", "-o", "new", "--json")
    assert outcome.json["renamed"] == {"pen": "[red] pén"}
    assert classes(here / "new") == {"[red] pén": 1, "keys": 3}
    assert classes(here / MODEL) == {"keys": 3, "pen": 1}
    assert "was pen" in run("rename", MODEL, "pen", "[red] pén", "--force").out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (f"add {MODEL} more", 2, f"{MODEL}: is not changed unless asked to.*--force.*--output"),
        (f"remove {MODEL} mug", 2, "--force.*--output"),
        (f"rename {MODEL} mug cup", 2, "--force.*--output"),
        (f"add {MODEL} more -o {MODEL}", 2, f"--output {MODEL}: exists already"),
        (f"add {MODEL} more -o base.safetensors", 2, "exists already"),
        (f"add {MODEL} more -o no/new", 2, "there is no folder"),
        (f"add {MODEL} more -o empty --force", 2, "a folder"),
        (f"add {MODEL} more -o new.jpg", 2, "the name of a photo"),
        (f"remove {MODEL} mug -o new.onnx", 2, "--output new.onnx: the name of an export"),
        (f"rename {MODEL} mug cup -o new.html", 2, "--output new.html: the name of a page"),
        ("add gone more --force", 2, "^Error: gone: no such file.*fewshot-lite adapt"),
        ("add more mine.safetensors --force", 2, "more: a folder. Name the personal model first"),
        ("add mine.onnx more --force", 2, "mine.onnx: an exported model.*export that again"),
        ("add random.safetensors more --force", 1, "^Error: random.safetensors: not a safetensors"),
        ("remove base.safetensors mug --force", 2, "^Error: base.safetensors: a meta-trained"),
        (f"add {MODEL} gone --force", 2, "gone: no such folder"),
        (f"add {MODEL} photos --force", 2, "photos: .*--class 'photos'"),
        (f"add {MODEL} photos/00.png --force", 2, "00.png: a file, not a folder.*--class"),
        (f"add {MODEL} more --class pen --force", 2, "--class: more holds folders"),
        (f"add {MODEL} empty --force", 1, "empty: no class folders"),
        (f"add {MODEL} empty --class pen --force", 1, "empty: no photos in this folder"),
        (f"add {MODEL} hollow --force", 1, "mug: no photos? in this folder"),
        (f"add {MODEL} broken --force", 1, r"pen: no photo in it can be read \(00.png: not an im"),
        (f"add {MODEL} twin --force", 2, "'MUG' and the model's class 'mug' differ only in case"),
        (f"add {MODEL} photos --class a/b --force", 2, "'a/b': no name for a class"),
        (f"add {MODEL} things --force", 1, "all 4 photos are in the model already"),
        (f"add {MODEL} broken/pen/00.png --class pen --force", 1, "00.png: not an image"),
        (f"remove {MODEL} mugs --force", 2, "'mugs': the model has no class.*Is it 'mug'"),
        (f"remove {MODEL} mug --force", 1, "only 'keys' left"),
        (f"remove {MODEL} --force", 2, "Name a class to remove"),
        (
            f"remove {MODEL} --photo mug/0.png --force",
            2,
            r"no photo of this name. Is it 'mug/0\d.png'",
        ),
        (f"rename {MODEL} mug keys --force", 2, "'keys': the model has a class of this name"),
        (f"rename {MODEL} mug KEYS --force", 2, "differ only in case"),
        (f"rename {MODEL} cup mug --force", 2, "no class of this name"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line_and_changes_nothing(
    run: Run, here: Path, words: str, code: int, message: str
) -> None:
    before = contents(here)
    is_one_clear_line(run(*words.split()), code, message)
    assert contents(here) == before


def test_a_doubtful_photo_of_a_renamed_class_is_told_with_its_class(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name still begins with the class that it was of."""
    doubts = (
        Suspicion(0, "mug/00.png", "cup", "mug", 0.9),
        Suspicion(1, "keys/00.png", "keys", "cup", 0.8),
    )
    module = "fewshot_lite.personal.quality.assess"
    monkeypatch.setattr(module, lambda personal: replace(assess(personal), suspicious=doubts))
    outcome = run("adapt", "things", "--base", "base.safetensors", "-o", "new.safetensors")
    assert "In the wrong class? mug/00.png (cup) looks like mug\n" in outcome.out
    assert "In the wrong class? keys/00.png looks like cup\n" in outcome.out


def test_json_has_the_same_keys_whatever_there_is(run: Run, here: Path) -> None:
    words = ("adapt", "things", "--base", "base.safetensors", "--json", "-o")
    plain = run(*words, "a.safetensors").json
    assert plain["report"] is plain["refined"] is None
    assert plain["clips"] == {}
    assert plain.keys() == run(*words, "b.safetensors", "--report", "b.html").json.keys()
    renamed = run("rename", MODEL, "mug", "cup", "-o", "c.safetensors", "--json").json
    assert renamed["quality"] is renamed["growth"] is None
    assert renamed.keys() == run("add", MODEL, "more", "-o", "d.safetensors", "--json").json.keys()
    suggested = run("suggest", "photos", "-m", MODEL, "--json").json
    assert suggested["folder"] is None
    copied = run("suggest", "photos", "-m", MODEL, "--json", "--copy-into", "sort").json
    assert suggested.keys() == copied.keys()
    (answer,) = run("classify", "photos/00.png", "-m", MODEL, "--json").json
    assert answer["frames"] is answer["time_line"] is None
