"""`classify` in bulk: streams, files, folders and signals, as a user has them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from torch import Tensor

from command_line import Run, is_one_clear_line
from fewshot_lite.cli.render import classify as render_classify
from fewshot_lite.personal.personal_model import ModelOutputs, PersonalModel
from fewshot_lite.personal.prediction import Prediction
from photos import contents, draw_classes, tiny_model

MODEL = ("-m", "mine.safetensors")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("model")
    things = draw_classes(home / "things", {"mug": 3, "keys": 3})
    tiny_model().adapt(things).save(home / "mine.safetensors")
    return home / "mine.safetensors"


@pytest.fixture
def home(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders of three photos, one file that is none, and a model."""
    (tmp_path / "mine.safetensors").symlink_to(model)
    draw_classes(tmp_path / "in", {"mug": 3, "keys": 3}, seed=1)
    (tmp_path / "in" / "mug" / "bad.jpg").write_text("text")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw))
    return raw


PHOTOS = [f"in/{kind}/0{i}.png" for kind in ("keys", "mug") for i in range(3)]


def test_all_outputs_agree(run: Run, home: Path) -> None:
    words = ("in", *MODEL, "--csv", "out.csv", "--jsonl", "out.jsonl", "--json", "--no-reject")
    outcome = run("classify", *words, "--sort-into", "sorted")
    assert outcome.code == 1
    assert outcome.err.splitlines() == [
        "Wrote out.csv: 7 files, 6 classified.",
        "Wrote out.jsonl: 7 files, 6 classified.",
        "Copied 6 photos into sorted.",
        "1 of 7 files could not be classified.",
    ]
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert outcome.json == lines
    assert [line["path"] for line in lines] == [*PHOTOS, "in/mug/bad.jpg"]
    with Path("out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, line in zip(rows, lines, strict=True):
        assert row["path"] == line["path"]
        assert row["label"] == row["label_1"] == (line["label"] or "")
        assert row["problem"] == (line["problem"] or "")
    assert set(rows[0]) >= {"label_2", "probability_2"}
    assert "label_3" not in rows[0]  # there are two classes
    sorted_ = contents(home / "sorted")
    assert len(sorted_) == 6
    for line in lines[:-1]:
        data = Path(line["path"]).read_bytes()
        assert data in [v for k, v in sorted_.items() if k.startswith(line["label"] + "/")]
    again = run("classify", *words, "--sort-into", "sorted", "--force")
    assert "Copied 0 photos into sorted, 6 were there already.\n" in again.err
    assert contents(home / "sorted") == sorted_


def test_text_is_printed_unless_another_form_is_asked_for(run: Run, home: Path) -> None:
    outcome = run("classify", "in/mug/00.png", *MODEL, "--csv", "out.csv")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == "Wrote out.csv: 1 file, 1 classified.\n"
    outcome = run("classify", "in/mug/00.png", *MODEL, "--csv", "-")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("path,label,")
    outcome = run("classify", "in/mug/00.png", *MODEL, "--sort-into", "sorted", "--link")
    assert len(outcome.out.splitlines()) == 1
    assert outcome.err == "Linked 1 photo into sorted.\n"
    (link,) = Path("sorted").glob("*/00.png")
    assert link.samefile("in/mug/00.png")


def test_unknown_photos_have_their_nearest_classes(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def threshold(_: object, reject: float) -> float:
        return math.inf if reject == 0 else -math.inf

    monkeypatch.setattr("fewshot_lite.personal.with_photos.WithPhotos.threshold", threshold)
    outcome = run("classify", "in/keys", *MODEL, "--reject", 0.1, "--sort-into", "sorted")
    assert outcome.code == 0
    for line in outcome.out.splitlines():
        assert re.fullmatch(r"\S+: unknown  \(nearest: (mug|keys) \d+%  (mug|keys) \d+%\)", line)
    assert len(contents(home / "sorted" / "unknown")) == 3
    answers = run("classify", "in/keys", *MODEL, "--json").json
    assert {answer["label"] for answer in answers} == {"unknown"}
    for none in (("--reject", 0), ("--no-reject",)):
        assert "unknown" not in run("classify", "in/keys", *MODEL, *none).out


def test_paths_from_stdin(run: Run, home: Path, stdin: io.BytesIO) -> None:
    stdin.write(b"in/mug/00.png\n\nin/keys\ngone.jpg\n")
    stdin.seek(0)
    outcome = run("classify", "in/mug/01.png", "-", *MODEL, "--jsonl", "-")
    assert outcome.code == 1
    paths = [json.loads(line)["path"] for line in outcome.out.splitlines()]
    assert paths == ["in/mug/01.png", "in/mug/00.png", *PHOTOS[:3], "gone.jpg"]


def test_paths_from_stdin_with_nul(run: Run, home: Path, stdin: io.BytesIO) -> None:
    Path("in/mug/00.png").rename("in/a\nb.png")
    stdin.write(b"in/a\nb.png\0in/mug/01.png\0")
    stdin.seek(0)
    outcome = run("classify", "-", "-0", *MODEL, "--json")
    assert outcome.code == 0
    assert [answer["path"] for answer in outcome.json] == ["in/a\nb.png", "in/mug/01.png"]


def test_stdin_may_not_name_what_is_written(run: Run, home: Path, stdin: io.BytesIO) -> None:
    Path("sorted").mkdir()
    Path("sorted/x.png").write_bytes(Path("in/mug/00.png").read_bytes())
    stdin.write(b"out.csv\nsorted/x.png\nin/mug/00.png\n")
    stdin.seek(0)
    outcome = run("classify", "-", *MODEL, "--csv", "out.csv", "--sort-into", "sorted")
    assert outcome.code == 1
    assert Path("out.csv").read_text().count("written by this run") == 2


BAD = [
    ("in --reject 2", 2, "--reject 2: give the share"),
    ("in --reject nan", 2, "--reject nan: give the share"),
    ("in --reject -0.1", 2, "--reject -0.1: give the share"),
    ("in --reject x", 2, "--reject"),
    ("in --csv nowhere/o.csv", 2, "--csv nowhere/o.csv: there is no folder"),
    ("in --csv old.csv", 2, "--csv old.csv: exists already. Use --force"),
    ("in --csv mine.safetensors --force", 2, "--csv mine.safetensors: .* the model"),
    ("in --jsonl o --csv o", 2, "--jsonl o: the same file as --csv"),
    ("in --json --csv -", 2, "--csv and --json: only one can go to stdout"),
    ("in --csv in/mug/00.png --force", 2, "--csv in/mug/00.png: the name of a photo"),
    ("in --sort-into in", 2, "--sort-into in: in is or lies in it"),
    ("in/mug --sort-into in", 2, "--sort-into in: in/mug is or lies in it"),
    ("in --sort-into old.csv", 2, "--sort-into old.csv: old.csv is a file, not a folder"),
    ("in --link", 2, "--link: for --sort-into DIR alone"),
    ("in --null", 2, "--null: for paths from stdin"),
    ("- -", 2, "-: given twice"),
    ("- --watch", 2, "--watch: for folders, not"),
    ("in/mug/00.png --watch", 2, "--watch: in/mug/00.png is no folder"),
    ("gone --watch", 2, "--watch gone: no such folder"),
    ("-", 1, "stdin: no paths came"),
    ("- --csv new.csv", 1, "stdin: no paths came"),
]


@pytest.mark.parametrize(("line", "code", "message"), BAD, ids=[line for line, _, _ in BAD])
def test_bad_input_is_one_clear_line_and_leaves_nothing_behind(
    run: Run, home: Path, stdin: io.BytesIO, line: str, code: int, message: str
) -> None:
    Path("old.csv").write_text("old")
    before = contents(home)
    is_one_clear_line(run("classify", *line.split(), *MODEL), code, message)
    assert contents(home) == before


def test_a_photo_on_stdin_is_one_clear_line_and_leaves_no_file(
    run: Run, home: Path, stdin: io.BytesIO
) -> None:
    stdin.write(b"in/mug/00.png\n" * 300 + Path("in/mug/00.png").read_bytes())
    stdin.seek(0)
    before = contents(home)
    is_one_clear_line(run("classify", "-", *MODEL, "--csv", "o.csv"), 1, "stdin: a NUL byte after")
    assert contents(home) == before


def test_a_full_disk_is_one_clear_line_and_leaves_no_file(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = contents(home)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        outcome = run("classify", "in/keys", *MODEL, "--csv", "o.csv", "--jsonl", "o.jsonl")
    is_one_clear_line(outcome, 1, "--jsonl o.jsonl: could not be written .no space left")
    monkeypatch.setattr("fewshot_lite.personal.bulk.sorting.shutil.copyfile", full)
    outcome = run("classify", "in/keys", *MODEL, "--csv", "o.csv", "--sort-into", "sorted")
    is_one_clear_line(outcome, 1, "--sort-into sorted: could not be written .no space left")
    assert contents(home) == before


def test_a_line_without_runners_up(capsys: pytest.CaptureFixture[str]) -> None:
    render_classify.print_prediction(Prediction(Path("[x].jpg"), (("[b]", 0.5),)))
    assert capsys.readouterr().out == "[x].jpg: [b] 50%\n"


def test_a_model_takes_three_batches_of_paths_at_most(model: Path, tmp_path: Path) -> None:
    taken = 0

    def paths() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield tmp_path / "gone.jpg"

    answers = PersonalModel.load(model).classify_stream(paths(), batch=4)
    for answered, _ in enumerate(islice(answers, 100)):
        assert taken <= answered + 3 * 4


def wait_for(condition: str, home: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if (home / "log.jsonl").exists() and condition in (home / "log.jsonl").read_text():
            return
        time.sleep(0.05)
    raise AssertionError(condition)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_watching_ends_cleanly_when_asked_to(home: Path, ending: signal.Signals) -> None:
    (home / "in" / "mug" / "bad.jpg").unlink()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "fewshot_lite", "classify", "in", "--watch", *MODEL),
            *("--jsonl", "log.jsonl", "--sort-into", "in/sorted"),
        ],
        cwd=home,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for("in/mug/02.png", home)
    whole = (home / "in/mug/00.png").read_bytes()
    with (home / "in" / "new.png").open("wb") as file:
        for piece in (whole[:50], whole[50:]):
            file.write(piece)
            file.flush()
            time.sleep(0.3)
    wait_for("in/new.png", home)
    process.send_signal(ending)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert err.splitlines() == [
        "Wrote log.jsonl: 7 files, 7 classified.",
        "Copied 7 photos into in/sorted.",
        "Totals: mug 4, keys 3.",
    ]
    lines = [json.loads(line) for line in (home / "log.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [*PHOTOS, "in/new.png"]
    assert all(line["problem"] is None for line in lines)
    assert len(contents(home / "in" / "sorted")) == 7


@pytest.mark.slow
def test_a_reader_of_csv_that_leaves_early_is_no_error(home: Path) -> None:
    words = [sys.executable, "-m", "fewshot_lite", "classify", "in", *MODEL, "--csv", "-"]
    process = subprocess.Popen(
        [*words, "--jsonl", "o.jsonl"],
        cwd=home,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")
    assert not (home / "o.jsonl").exists()


def test_where_nothing_can_be_rejected_that_is_said(run: Run, home: Path) -> None:
    one = draw_classes(home / "one", {"mug": 1, "keys": 1})
    tiny_model().adapt(one).save("one.safetensors")
    words = ("classify", "in/keys", "--model", "one.safetensors")
    assert "--reject" not in run(*words).err
    outcome = run(*words, "--reject", 0.1)
    assert outcome.code == 0
    note = "--reject 0.1: names all, as no class of one.safetensors has two photos."
    assert outcome.err.splitlines()[0] == note


def test_reject_and_no_reject_exclude_each_other(run: Run, home: Path) -> None:
    outcome = run("classify", "in", *MODEL, "--reject", "0.1", "--no-reject")
    is_one_clear_line(outcome, 2, "--no-reject")


def test_a_file_that_fails_is_named_beside_a_csv_file(run: Run, home: Path) -> None:
    outcome = run("classify", "in", *MODEL, "--csv", "out.csv", "--no-reject")
    assert outcome.code == 1
    assert outcome.err.splitlines() == [
        "Skipped in/mug/bad.jpg: not an image, or badly damaged",
        "Wrote out.csv: 7 files, 6 classified.",
        "Totals: keys 3, mug 3.",
        "1 of 7 files could not be classified.",
    ]


ODD_PATHS = ["gone.jpg", "x" * 300 + ".jpg", "loop", "gone/x.jpg", "mine.safetensors/x.jpg", "pipe"]


def test_photos_that_cannot_be_read_do_not_keep_the_others_from_an_answer(
    run: Run, home: Path
) -> None:
    Path("loop").symlink_to("loop")
    os.mkfifo("pipe")
    words = [ODD_PATHS[0], "in/mug/00.png", *ODD_PATHS[1:], "in/keys/00.png"]
    outcome = run("classify", *words, *MODEL, "--json", "--csv", "out.csv")
    assert outcome.code == 1
    assert [answer["path"] for answer in outcome.json] == words
    answered = [answer["path"] for answer in outcome.json if answer["problem"] is None]
    assert answered == ["in/mug/00.png", "in/keys/00.png"]


def test_what_is_no_photo_in_a_folder_is_no_failure_unless_strict(run: Run, home: Path) -> None:
    Path("in/mug/bad.jpg").unlink()
    Path("in/notes.txt").write_text("text")
    outcome = run("classify", "in", *MODEL)
    assert (outcome.code, len(outcome.out.splitlines())) == (0, 6)
    assert outcome.err == "Skipped in/notes.txt: not a photo\nTotals: keys 3, mug 3.\n"
    assert run("classify", "in", *MODEL, "--strict").code == 1
    Path("papers").mkdir()
    Path("papers/notes.txt").write_text("text")
    assert run("classify", "papers", *MODEL).code == 1  # nothing in it could be named


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_answers_that_are_not_finite_are_errors(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    outputs_of = PersonalModel.outputs_of

    def damaged(self: PersonalModel, features: Tensor) -> ModelOutputs:
        outputs = outputs_of(self, features)
        outputs.probabilities[0] = value
        outputs.strangeness[1] = value
        return outputs

    monkeypatch.setattr(PersonalModel, "outputs_of", damaged)
    words = ("classify", "in/keys", *MODEL, "--sort-into", "sorted", "--no-reject", "--json")
    outcome = run(*words)
    assert outcome.code == 1
    assert ["not finite" in (answer["problem"] or "") for answer in outcome.json] == [
        *(True, True, False)
    ]
    assert len(contents(home / "sorted")) == 1
