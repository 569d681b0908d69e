"""The command line: what it prints, what it exits with, and what it leaves on disk."""

from __future__ import annotations

import functools
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from command_line import Run, is_one_clear_line
from fewshot_lite.demo.drawings import write_folder
from fewshot_lite.lite.step import LiteStep, lite_step
from fewshot_lite.personal.meta_model import MetaModel
from photos import SIZE, contents, draw_classes, tiny_model


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good and bad things; tests that change something work on files of their own."""
    here = tmp_path_factory.mktemp("world")
    things = draw_classes(here / "things", {"mug": 3, "keys": 2})
    model = tiny_model()
    model.save(here / "base.safetensors", half=True)
    model.adapt(things).save(here / "mine.safetensors")
    (here / "random.safetensors").write_bytes(bytes(range(256)) * 4)
    data = (here / "mine.safetensors").read_bytes()
    (here / "cut.safetensors").write_bytes(data[: len(data) // 2])
    (here / "text.jpg").write_text("text")
    (here / "table").write_text("a/00.png,a\nb/00.png,b\n")
    (here / "empty").mkdir()
    draw_classes(here / "loose", {".": 2})
    draw_classes(here / "one", {"mug": 2})
    draw_classes(here / "hollow", {"mug": 2, "keys": 0})
    draw_classes(here / "twins", {"Mug": 1, "mug": 1})
    draw_classes(here / "unreadable", {"mug": 1, "keys": 1})
    (here / "unreadable" / "keys" / "00.png").write_bytes(b"")
    draw_classes(here / "few", dict.fromkeys("abcd", 4))
    return here


ADAPT = "adapt things --base base.safetensors"
TRAIN = "meta-train things -o new"
EVALUATE = "evaluate base.safetensors things"
BAD = [
    # FOLDER
    ("adapt missing", 2, "missing: no such folder"),
    ("adapt text.jpg", 2, "text.jpg: a file, not a folder"),
    ("adapt empty --base base.safetensors", 1, "empty: .*one folder per class"),
    (
        "adapt loose --base base.safetensors",
        1,
        "loose: photos lie directly in the folder.*one folder",
    ),
    ("adapt one --base base.safetensors", 1, r"one: one class only \('mug'\)"),
    ("adapt hollow --base base.safetensors", 1, "keys: no photo in it can be read"),
    ("adapt unreadable --base base.safetensors", 1, r"keys: no photo .*\(00.png: empty file"),
    ("adapt twins --base base.safetensors", 1, "'Mug' and 'mug' differ only in case"),
    # --labels
    ("adapt things --labels none.csv", 2, "--labels none.csv: no such file"),
    ("adapt things --labels text.jpg --base base.safetensors", 1, "text.jpg, line 1: 1 columns"),
    ("check text.jpg", 2, "text.jpg: a file, not a folder, and no ZIP"),
    # --base, --model
    ("adapt text.jpg --labels table", 2, "text.jpg: a file. With --labels, give the folder"),
    ("adapt things --base=", 2, "--base is an empty word"),
    (f"{ADAPT} --refine on --refine-pattern=", 2, "--refine-pattern is an empty word"),
    ("adapt things --base nonsense", 2, "--base nonsense: no such file, and no model of this name"),
    ("adapt things --base gone.safetensors", 2, "--base gone.safetensors: no such file"),
    ("adapt things --base mine.safetensors", 2, "--base mine.safetensors: a personal model"),
    ("adapt things --base random.safetensors", 1, "random.safetensors: not a safetensors file"),
    ("adapt things --base empty", 2, "--base empty: a folder"),
    ("classify things", 2, r"no personal.safetensors here.*fewshot-lite adapt FOLDER.*--model"),
    ("classify things -m base.safetensors", 2, "--model base.safetensors: a meta-trained model"),
    ("classify things -m random.safetensors", 1, "random.safetensors: not a safetensors file"),
    ("classify things -m cut.safetensors", 1, "cut.safetensors: truncated or damaged"),
    ("classify things -m gone", 2, "--model gone: no such file"),
    ("classify things -m empty", 2, "--model empty: a folder"),
    # --output
    (f"{ADAPT} -o mine.safetensors", 2, "mine.safetensors: exists already.*--force"),
    (f"{ADAPT} -o nowhere/mine", 2, "--output nowhere/mine: there is no folder"),
    (f"{ADAPT} -o empty", 2, "--output empty: a folder"),
    (f"{ADAPT} -o new.onnx", 2, "--output new.onnx: .* an export, which `fewshot-lite export`"),
    (f"{ADAPT} -o new.mp4", 2, "--output new.mp4: the name of a video. End it in .safetensors"),
    (f"{ADAPT} -o things.zip", 2, "--output things.zip: the name of an archive"),
    (f"{ADAPT} -o -", 2, "--output -: a model is not written to stdout"),
    ("adapt few --labels table -o table --force", 2, "--output table: the same file as --labels"),
    ("meta-train things -o new.pt2", 2, "--output new.pt2: the name of an export"),
    ("pretrain things -o new.png", 2, "--output new.png: the name of a photo"),
    ("tune things -o new.csv --backbone resnet18", 2, "--output new.csv: the name of a table"),
    ("lambda-search refine:default things -o new.onnx", 2, "--output new.onnx: the name of an ex"),
    (f"{TRAIN} -o nowhere/m", 2, "--output nowhere/m: there is no folder"),
    (f"{TRAIN} -o base.safetensors", 2, "base.safetensors: exists already.*--force"),
    ("pretrain things -o base.safetensors", 2, "base.safetensors: exists already.*--force"),
    (f"{TRAIN} --resume", 2, "--resume: there is nothing to resume"),
    ("pretrain things -o new --resume", 2, "--resume: there is nothing to resume"),
    # tables and figures
    *[
        (f"{EVALUATE} --force {flag} {name}", 2, f"{flag} {name}: the name of {what}. .* e.g. ")
        for flag, name, what in [
            ("--output", "mine.safetensors", "a model"),
            ("--csv", "mine.safetensors", "a model"),
            ("--csv", "things/mug/00.png", "a photo"),
            ("--submission", "mine.onnx", "an export"),
        ]
    ],
    *[
        (f"{words} --force --plot things/mug/00.png", 2, "--plot .*: among the photos of things")
        for words in (EVALUATE, "lambda-search refine:base.safetensors things", TRAIN)
    ],
    # PATH
    ("classify gone.jpg -m mine.safetensors", 1, "gone.jpg: no such file"),
    ("classify text.jpg -m mine.safetensors", 1, "text.jpg: not an image"),
    ("classify empty -m mine.safetensors", 1, "empty: no photos in this folder"),
    # DATA
    ("meta-train missing -o new", 2, "missing: no such folder"),
    ("meta-train text.jpg -o new", 2, "text.jpg: a file, not a folder"),
    ("meta-train empty -o new", 1, "empty: "),
    (f"{TRAIN} --min-way 2 --max-support 20 --weights gone", 2, "--weights gone: no such file"),
    (f"{TRAIN} --weights mine.safetensors", 2, "mine.safetensors: a personal file, not a backbone"),
    (f"{TRAIN} --image-size 32", 1, "Too few classes for tasks of 5.*'things', has 2.*--min-way"),
    ("meta-train one -o new --min-way 2", 1, "'one', has 1 with .* photos. Add classes or photos."),
    (f"{TRAIN} --learner simple", 2, "learner 'simple': unknown"),
    (f"{TRAIN} --backbone resnet", 2, "'resnet': there is no such network.*Did you mean resnet"),
    (
        f"{TRAIN} --backbone densenet121 --image-size 16",
        2,
        "--image-size 16: densenet121 cannot take it",
    ),
    (f"{TRAIN} --no-flip mugs", 2, "--no-flip mugs: there is no such data set"),
    (f"{TRAIN} --tracks mugs", 2, "--tracks mugs: there is no such data set"),
    (f"{TRAIN} --unseen-only", 2, "--unseen-only: .*--leave-out"),
    (f"{TRAIN} --validate few", 2, "--validate few: .*--validate-every"),
    ("pretrain missing -o new", 2, "missing: no such folder"),
    ("pretrain one -o new --image-size 32 --min-image-size 32", 1, "too few classes"),
    # numbers
    *[
        (f"{TRAIN} {flag} {value}", 2, flag)
        for flag, value in [
            ("--image-size", "0"),
            ("--image-size", "-32"),
            ("--image-size", "999999999999"),
            ("--image-size", "x"),
            ("--min-way", "1"),
            ("--max-way", "0"),
            ("--max-way", "999999999999"),
            ("--max-support", "1"),
            ("--max-shot", "0"),
            ("--queries", "-1"),
            ("--queries", "999999999999"),
            ("--tasks", "0"),
            ("--tasks", "1e9"),
            ("--tasks-per-step", "0"),
            ("--save-every", "0"),
            ("--validate-every", "-1"),
            ("--h", "0"),
            ("--h", "some"),
            ("--lr", "0"),
            ("--lr", "nan"),
            ("--lr", "inf"),
            ("--lr", "-1"),
            ("--penalty", "-1"),
            ("--backbone-lr", "-1"),
            ("--shifts", "2"),
            ("--micro-batch", "0"),
            ("--micro-batch", "99999999999999999999"),
            ("--seed", "99999999999999999999"),
            ("--sampling", "best"),
            ("--precision", "float8"),
        ]
    ],
    *[
        (f"pretrain things -o new {flag} {value}", 2, flag)
        for flag, value in [
            ("--image-size", "0"),
            ("--min-image-size", "2000"),
            ("--epochs", "0"),
            ("--batch-size", "1"),
            ("--batch-size", "999999999999"),
            ("--lr", "nan"),
            ("--weight-decay", "-1"),
            ("--label-smoothing", "1"),
            ("--leave-out", "1"),
            ("--seed", "-99999999999999999999"),
        ]
    ],
    ("classify things -m mine.safetensors --top 0", 2, "--top.*: must be at least 1"),
    ("classify things -m mine.safetensors --top two", 2, "--top.*: give a whole number"),
    ("meta-train things -o new --lr fast", 2, "--lr.*: give a number"),
    ("serve --port 65536", 2, "--port.*: must be at most 65535"),
    (f"{ADAPT} --device abacus", 2, "--device abacus: not available here"),
    ("classify things -m mine.safetensors --device cuda:99", 2, "--device cuda:99: not available"),
    # words
    ("adapt", 2, "Missing argument.*fewshot-lite adapt --help"),
    ("classify", 2, "Missing argument"),
    ("meta-train things", 2, "Missing option.*--output"),
    ("adapt things --bse x", 2, "No such option.*--bse"),
    ("adopt things", 2, "No such command 'adopt'.*adapt'[?] Try `"),
    # info, demo
    ("info gone", 2, "gone: no such file"),
    ("info empty", 2, "empty: a folder"),
    ("info random.safetensors", 1, "not a safetensors file"),
    ("info cut.safetensors", 1, "truncated or damaged"),
    ("demo -o things --base base.safetensors", 2, "things: holds .* not the demo's"),
    ("demo -o text.jpg --base base.safetensors", 2, "text.jpg: a file"),
    (
        "demo -o nowhere/demo --base base.safetensors",
        2,
        "nowhere/demo: there is no folder .*nowhere",
    ),
    ("demo -o new --base mine.safetensors", 2, "--base mine.safetensors: a personal model"),
    ("demo -o new --base nonsense", 2, "--base nonsense: no such file"),
]


@pytest.mark.parametrize(("line", "code", "message"), BAD, ids=[line for line, _, _ in BAD])
def test_bad_input_is_one_clear_line_and_leaves_nothing_behind(
    run: Run,
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(world)
    before = contents(world)
    is_one_clear_line(run(*shlex.split(line)), code, message)
    assert contents(world) == before
    assert not (world / "new").exists()


def test_a_name_longer_than_the_disk_takes_is_one_clear_line(
    run: Run, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    before = contents(world)
    base = "--base base.safetensors"
    for line in (
        "adapt {}",
        "classify x -m {}",
        f"{ADAPT} -o {{}}",
        "info {}",
        f"demo -o {{}} {base}",
    ):
        outcome = run(*line.format("n" * 300).split())
        is_one_clear_line(outcome, outcome.code, "nnn: ")
        assert outcome.code in (1, 2)
    assert contents(world) == before


def test_a_full_disk_is_one_clear_line_and_leaves_nothing_behind(
    run: Run, world: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = run(
        "adapt", world / "things", "--base", world / "base.safetensors", "-o", tmp_path / "m"
    )
    is_one_clear_line(outcome, 1, "m: could not be written .*No space left")
    assert contents(tmp_path) == {}


def test_ctrl_c_says_so_and_leaves_nothing_behind(
    run: Run, world: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fewshot_lite.personal.support.decode_pixels", interrupted)
    outcome = run(
        "adapt", world / "things", "--base", world / "base.safetensors", "-o", tmp_path / "m"
    )
    is_one_clear_line(outcome, 130, "Interrupted")
    assert contents(tmp_path) == {}


def test_help_and_version(run: Run) -> None:
    assert run("--version").out.startswith("fewshot-lite ")
    for command in ("adapt", "classify", "demo", "info", "pretrain", "tune", "meta-train"):
        assert command in run("--help").out
        outcome = run(command, "--help")
        assert (outcome.code, outcome.err) == (0, "")
        assert "Example" in outcome.out


def test_without_words_it_helps(run: Run) -> None:
    outcome = run()
    assert "meta-train" in outcome.out
    assert outcome.err == ""


def test_python_dash_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fewshot_lite", "--version"], capture_output=True, text=True
    )
    assert done.stdout.startswith("fewshot-lite ")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def home(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a base, and with photos of things with odd names."""
    home = tmp_path / "my home"
    home.mkdir()
    (home / "base.safetensors").symlink_to(world / "base.safetensors")
    draw_classes(home / "things", dict.fromkeys(ODD, 2))
    monkeypatch.chdir(home)
    return home


#: Umlauts, an emoji of several characters, markup, an emoji code, a quote, 100 characters.
ODD = ["Schlüssel", "👨‍👩‍👧", "[red]x", "[", "a :key: b", "it's", "n" * 100]


def test_adapt_then_classify_without_a_word_too_many(run: Run, home: Path) -> None:
    outcome = run("adapt", "things", "--base", "base.safetensors")
    assert (outcome.code, outcome.err) == (0, "")
    for name in ODD:
        assert re.search(rf"^{re.escape(name)} +2", outcome.out, re.M), name
    assert re.search(
        r"^Adapted to 14 photos of 7 classes in .* s: personal.safetensors$", outcome.out, re.M
    )
    assert re.search(r"^Next: fewshot-lite classify photo.jpg$", outcome.out, re.M)
    photos = sorted((home / "things").rglob("*.png"))
    outcome = run("classify", "things", "--top", 7)
    assert outcome.code == 0
    assert outcome.err == "The model was adapted to 14 of these: they are no test of it.\n"
    lines = outcome.out.splitlines()
    assert len(lines) == 14
    for photo, line in zip(photos, lines, strict=True):
        path = photo.relative_to(home)
        match = re.fullmatch(
            rf"{re.escape(str(path))}: (.*?) \d+%  \((.*)\)  adapted to this", line
        )
        assert match, line
        assert match[1] in ODD
        assert all(name in line for name in ODD)


def test_one_photo_one_line(run: Run, world: Path) -> None:
    photo = world / "things" / "mug" / "00.png"
    outcome = run("classify", photo, "-m", world / "mine.safetensors", "--top", 1)
    assert outcome.code == 0
    assert re.fullmatch(
        rf"{re.escape(str(photo))}: (mug|keys) \d+%  adapted to this\n", outcome.out
    )


@pytest.mark.slow
def test_what_is_skipped_is_named_and_the_rest_is_done(run: Run, home: Path) -> None:
    (home / "things" / "it's" / "[b]text.jpg").write_text("text")
    (home / "things" / "notes.txt").write_text("text")
    for name in ("hollow", "text"):
        (home / "things" / name).mkdir()
    (home / "things" / "text" / "x.jpg").write_text("text")
    strict = run("adapt", "things", "--base", "base.safetensors", "--strict")
    assert strict.code == 1
    assert not (home / "personal.safetensors").exists()
    outcome = run("adapt", "things", "--base", "base.safetensors")
    assert outcome.code == 0
    assert sorted(outcome.err.splitlines()) == [
        "Skipped things/hollow: no photo in it can be read: left out",
        "Skipped things/it's/[b]text.jpg: not an image, or badly damaged",
        "Skipped things/notes.txt: not inside a class folder",
        "Skipped things/text/x.jpg: not an image, or badly damaged",
        "Skipped things/text: no photo in it can be read (x.jpg: not an image, or badly damaged): "
        "left out",
    ]
    assert re.search(r"^it's +2 +1$", outcome.out, re.M)
    assert re.search(r"^Schlüssel +2 *$", outcome.out, re.M)
    assert "Adapted to 14 photos" in outcome.out
    outcome = run("classify", "gone.jpg", "things/it's", "things/notes.txt")
    assert outcome.code == 1
    assert len(outcome.out.splitlines()) == 2
    assert outcome.err.splitlines() == [
        "Skipped gone.jpg: no such file",
        "Skipped things/it's/[b]text.jpg: not an image, or badly damaged",
        "Skipped things/notes.txt: not an image, or badly damaged",
        "The model was adapted to 2 of these: they are no test of it.",
        "3 of 5 files could not be classified.",
    ]


def test_json_is_all_that_is_on_stdout(run: Run, home: Path) -> None:
    (home / "things" / "it's" / "text.jpg").write_text("text")
    outcome = run("adapt", "things", "--base", "base.safetensors", "--json")
    assert outcome.code == 0
    assert outcome.err == "Skipped things/it's/text.jpg: not an image, or badly damaged\n"
    assert outcome.json["model"] == "personal.safetensors"
    assert outcome.json["classes"] == dict.fromkeys(sorted(ODD), 2)
    assert outcome.json["skipped"] == [
        {"path": "things/it's/text.jpg", "reason": "not an image, or badly damaged"}
    ]
    assert outcome.json["base"]["name"] == "base"
    assert "Schlüssel" in outcome.out
    outcome = run("classify", "gone.jpg", "things", "--json", "--no-reject")
    assert (outcome.code, outcome.err) == (1, "2 of 16 files could not be classified.\n")
    first, *others = outcome.json
    assert first == {
        "path": "gone.jpg",
        "label": None,
        "probability": None,
        "strangeness": None,
        "labels": [],
        "problem": "no such file",
        "adapted_to": False,
        "frames": None,
        "time_line": None,
    }
    assert len(others) == 15
    assert sum(answer["problem"] is None for answer in others) == 14
    answer = others[0]
    assert answer["labels"][0] == {"name": answer["label"], "probability": answer["probability"]}
    outcome = run("classify", "gone.jpg", "--json")
    assert (outcome.code, len(outcome.json)) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_names_that_the_encoding_lacks_end_nothing(run: Run, home: Path, encoding: str) -> None:
    (home / "things" / "it's" / "täxt😀.jpg").write_text("text")
    outcome = run("adapt", "things", "--base", "base.safetensors", encoding=encoding)
    assert outcome.code == 0
    assert "Adapted to 14 photos" in outcome.out
    assert "Skipped" in outcome.err
    outcome = run("classify", "things", encoding=encoding)
    assert len(outcome.out.splitlines()) == 14
    outcome = run("classify", "things", "--json", encoding=encoding)
    assert {answer["label"] for answer in outcome.json} <= {*ODD, None}
    assert any("😀" in answer["path"] for answer in outcome.json)
    is_one_clear_line(run("adapt", "töpfe😀", encoding=encoding), 2, "no such folder")


@pytest.mark.skipif(sys.platform != "linux", reason="file names there are Unicode")
def test_file_names_that_are_no_text(run: Run, world: Path, tmp_path: Path) -> None:
    photo = (world / "things" / "mug" / "00.png").read_bytes()
    names = [b"\xff\xfe.png", b"line\nbreak.png", b"\x1b[31mred.png", b"[bold]\\.png"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(photo)
    outcome = run("classify", tmp_path, "-m", world / "mine.safetensors")
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 4
    for shown in (
        r"\udcff\udcfe.png: ",
        r"line\nbreak.png: ",
        r"\x1b[31mred.png: ",
        r"[bold]\.png: ",
    ):
        assert shown in outcome.out
    outcome = run("classify", tmp_path, "-m", world / "mine.safetensors", "--json")
    assert {os.fsencode(Path(answer["path"]).name) for answer in outcome.json} == set(names)


def test_a_path_with_two_spaces_is_named_as_it_is(run: Run) -> None:
    is_one_clear_line(run("adapt", "my  things"), 2, "my  things: no such folder")


def test_commands_to_go_on_with_can_be_typed(run: Run, home: Path) -> None:
    outcome = run("adapt", "things", "--base", "base.safetensors", "-o", "it's mine.safetensors")
    (line,) = re.findall("^Next: (.*)$", outcome.out, re.M)
    words = shlex.split(line)
    assert words == ["fewshot-lite", "classify", "photo.jpg", "--model", "it's mine.safetensors"]


def test_force_overwrites(run: Run, home: Path) -> None:
    run("adapt", "things", "--base", "base.safetensors")
    assert run("adapt", "things", "--base", "base.safetensors").code == 2
    assert run("adapt", "things", "--base", "base.safetensors", "--force").code == 0


@pytest.fixture
def few_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot_lite.demo.run.KINDS", ("key", "leaf"))
    small = functools.partial(write_folder, size=64)
    monkeypatch.setattr("fewshot_lite.demo.run.write_folder", small)


@pytest.mark.slow
@pytest.mark.usefixtures("few_kinds")
def test_demo_prints_its_accuracy_and_what_to_type(run: Run, home: Path) -> None:
    outcome = run("demo", "-o", "a demo", "--base", "base.safetensors")
    assert (outcome.code, outcome.err) == (0, "")
    said = re.search(
        r"named (\d+) of (\d+) held-back ones right: ([\d.]+)% \(95 % int", outcome.out
    )
    assert said, outcome.out
    assert float(said[3]) == pytest.approx(100 * int(said[1]) / int(said[2]), abs=0.05)
    commands = [
        shlex.split(line) for line in re.findall("^  (fewshot-lite .*)$", outcome.out, re.M)
    ]
    assert [words[1] for words in commands] == ["classify", "adapt", "classify"]
    assert run(*commands[0][1:]).code == 0
    outcome = run("demo", "-o", "a demo", "--base", "base.safetensors", "--force", "--json")
    assert outcome.code == 0
    assert outcome.json["total"] == int(said[2])
    assert outcome.json["accuracy"] == outcome.json["correct"] / outcome.json["total"]


def test_info_of_each_kind(run: Run, home: Path) -> None:
    run("adapt", "things", "--base", "base.safetensors")
    outcome = run("info", "personal.safetensors")
    assert outcome.out.startswith("personal.safetensors: a personal model (for classify --model)")
    for name in ODD:
        assert f"{name} (2)" in outcome.out
    assert "SHA-256" in outcome.out
    assert set(run("info", "personal.safetensors", "--json").json["class_names"]) == set(ODD)
    outcome = run("info", "base.safetensors")
    assert outcome.out.startswith("base.safetensors: a meta-trained model (for adapt --base)")
    assert re.search(r"learner +simple-cnaps", outcome.out)


def test_info_of_a_damaged_description_is_one_clear_line(run: Run, home: Path) -> None:
    from fewshot_lite.core import checkpoint

    for meta in (
        {"class_names": ["a"]},
        {"record": []},
        {"provenance": "x"},
        {"record": {"tasks": 3}},
    ):
        checkpoint.save(home / "odd.safetensors", "personal", {}, meta)
        is_one_clear_line(run("info", "odd.safetensors"), 1, "odd.safetensors: its description is")


QUICK_TRAIN = shlex.split(
    "--learner protonets --backbone shufflenet_v2_x0_5 --image-size 32 --min-way 2 --max-way 4 "
    "--max-support 8 --max-shot 3 --queries 2 --tasks 6 --tasks-per-step 2 --save-every 2"
)


def test_the_chain_from_pixels_to_answers(run: Run, home: Path) -> None:
    data = draw_classes(home / "my data", dict.fromkeys("abcd", 4))
    outcome = run(
        *("pretrain", data, "-o", "back bone.safetensors", "--backbone", "shufflenet_v2_x0_5"),
        *("--image-size", SIZE, "--min-image-size", SIZE, "--epochs", 4, "--batch-size", 4),
        *("--lr", 0.01),
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("Done after 16 steps (loss ")
    (line,) = re.findall("^Next: (.*)$", outcome.out, re.M)
    _, *words = shlex.split(line)
    assert words[:2] == ["meta-train", str(data)]
    quick = [w for w in QUICK_TRAIN if w not in ("--backbone", "shufflenet_v2_x0_5")]
    outcome = run(*words, *quick)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("Done after 6 tasks (loss ")
    (line,) = re.findall("^Next: (.*)$", outcome.out, re.M)
    _, *words = shlex.split(line)
    assert words == ["adapt", "./my_objects", "--base", "model.safetensors"]
    assert run("adapt", "my data", *words[2:]).code == 0
    assert run("classify", data).code == 0
    assert run("info", "model.safetensors").out.count("trained on") == 1
    assert run("info", "back bone.safetensors").out.count("trained on") == 1


def test_training_prints_json(run: Run, home: Path) -> None:
    data = draw_classes(home / "data", dict.fromkeys("abcd", 4))
    (data / "a" / "bad.jpg").write_text("text")
    outcome = run("meta-train", data, "-o", "m", *QUICK_TRAIN, "--json")
    assert outcome.code == 0
    assert outcome.json["finished"] is True
    assert outcome.json["unreadable"] == 1


def test_training_says_that_photos_were_left_out(run: Run, home: Path) -> None:
    data = draw_classes(home / "data", dict.fromkeys("abcd", 4))
    (data / "a" / "bad.jpg").write_text("text")
    outcome = run("meta-train", data, "-o", "m", *QUICK_TRAIN)
    assert outcome.code == 0
    assert outcome.err == "Skipped 1 photos that cannot be read; m.jsonl names them.\n"


def test_ctrl_c_in_training_leaves_a_model_and_says_how_to_go_on(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = draw_classes(home / "my data", dict.fromkeys("abcd", 4))
    calls = 0

    def step(*args: Any, **options: Any) -> LiteStep:
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return lite_step(*args, **options)

    monkeypatch.setattr("fewshot_lite.training.meta_step.lite_step", step)
    words = ["meta-train", data.name, "-o", "my model.safetensors", *QUICK_TRAIN, "--force"]
    outcome = run(*words)
    assert (outcome.code, outcome.err) == (130, "")
    assert outcome.out.startswith("Stopped after 4 of 6 tasks (loss ")
    assert "my model.safetensors is usable as it is." in outcome.out
    assert MetaModel.load("my model.safetensors").record["tasks"] == [4, 6]
    (line,) = re.findall("^Go on with: (.*)$", outcome.out, re.M)
    again = shlex.split(line)
    assert again == ["fewshot-lite", *words[:-1], "--resume"]
    outcome = run(*again[1:])
    assert outcome.code == 0
    assert outcome.out.startswith("Done after 6 tasks")
    assert MetaModel.load("my model.safetensors").record["tasks"] == [6, 6]


def test_ctrl_c_before_the_first_step_has_no_figures(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = draw_classes(home / "data", dict.fromkeys("abcd", 4))
    from fewshot_lite.core.stopping import StopRequest

    monkeypatch.setattr(StopRequest, "__bool__", lambda self: True)
    outcome = run("meta-train", data, "-o", "m", *QUICK_TRAIN)
    assert outcome.code == 130
    assert outcome.out.startswith("Stopped after 0 of 6 tasks. m is usable")
    outcome = run("meta-train", data, "-o", "m2", *QUICK_TRAIN, "--json")
    assert (outcome.code, outcome.json["loss"]) == (130, None)


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error(world: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fewshot_lite", "classify", "things", "-m", "mine.safetensors"],
        cwd=world,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 1
