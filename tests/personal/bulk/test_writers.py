"""Answers as CSV and JSON: what is written, when, and what is left if it ends early."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.personal.bulk.writers import (
    STDOUT,
    CsvWriter,
    JsonLinesWriter,
    JsonWriter,
    Output,
    open_output,
)
from fewshot_lite.personal.prediction import Prediction
from photos import contents

ODD = 'a,"b"\nc\u2028\x85😀'
ANSWERS = [
    Prediction(Path(ODD), (("mug", 2 / 3), (ODD, 1 / 3)), None, False, 1.5),
    Prediction(Path("s.jpg"), (("mug", 0.9), ("keys", 0.1)), None, True, float("inf")),
    Prediction(Path("bad.jpg"), (), "no such file"),
]
WRITERS = [lambda output: CsvWriter(output, 2), JsonLinesWriter, JsonWriter]


def text_of(writer_of: object, answers: list[Prediction], encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding, newline="", write_through=True)
    writer = writer_of(Output(stream, "x"))  # type: ignore[operator]
    for answer in answers:
        writer.write(answer)
    writer.end()
    return raw.getvalue().decode(encoding)


SPELLED = 'a,"b"\\nc\\u2028\\x85😀'


def test_csv_has_a_header_and_a_row_a_file() -> None:
    header, *rows = csv.reader(io.StringIO(text_of(WRITERS[0], ANSWERS), newline=""))
    assert ",".join(header) == (
        "path,label,probability,strangeness,label_1,probability_1,label_2,probability_2,problem,"
        "adapted_to"
    )
    assert rows == [
        [SPELLED, "mug", "0.666667", "1.5", "mug", "0.666667", SPELLED, "0.333333", "", ""],
        ["s.jpg", "unknown", "", "inf", "mug", "0.9", "keys", "0.1", "", ""],
        ["bad.jpg", "", "", "", "", "", "", "", "no such file", ""],
    ]
    assert text_of(WRITERS[0], []).count("\n") == 1


def test_no_cell_is_a_formula_or_an_escape_sequence() -> None:
    evil = '=HYPERLINK("x")\r\x1b[2J\u202e'
    answer = Prediction(Path(evil), ((evil, 1.0),), f"+{evil}", strangeness=-1.0)
    text = text_of(WRITERS[0], [answer])
    (_, row) = csv.reader(io.StringIO(text))
    assert row[0] == "./" + (shown := r'=HYPERLINK("x")\r\x1b[2J\u202e')
    assert row[1] == row[4] == "'" + shown
    assert (row[3], row[-2]) == ("-1", "'+" + shown)  # a number is no formula


def test_json_has_no_escape_sequence_and_loses_nothing() -> None:
    evil = "\x1b[2J\x9b2J\u202e\x7f\ud800é"
    text = text_of(JsonLinesWriter, [Prediction(Path(evil), ())])
    assert text.isprintable() or text[:-1].isprintable()
    assert json.loads(text)["path"] == evil


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_and_json_lines_hold_the_same(encoding: str) -> None:
    array = json.loads(text_of(JsonWriter, ANSWERS, encoding))
    lines = [json.loads(s) for s in text_of(JsonLinesWriter, ANSWERS, encoding).split("\n")[:-1]]
    assert array == lines
    assert array[0] == {
        "path": ODD,
        "label": "mug",
        "probability": 2 / 3,
        "strangeness": 1.5,
        "labels": [{"name": "mug", "probability": 2 / 3}, {"name": ODD, "probability": 1 / 3}],
        "problem": None,
        "adapted_to": False,
        "frames": None,
        "time_line": None,
    }
    assert (array[1]["label"], array[1]["probability"]) == ("unknown", None)
    assert array[1]["strangeness"] is None  # JSON has no infinity
    assert array[2]["problem"] == "no such file"


def test_json_is_laid_out_as_json_dumps_would() -> None:
    text = text_of(JsonWriter, ANSWERS[1:])
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
    assert text_of(JsonWriter, []) == "[]\n"


@pytest.mark.parametrize("writer_of", WRITERS)
def test_names_that_are_no_text_are_written_as_escapes(writer_of: object, tmp_path: Path) -> None:
    answer = Prediction(Path("\udcff.jpg"), (("mug", 1.0),))
    with open_output(tmp_path / "out", "--out") as output:
        writer_of(output).write(answer)  # type: ignore[operator]
    assert r"\udcff.jpg" in (tmp_path / "out").read_text(encoding="utf-8")


@pytest.mark.parametrize("writer_of", WRITERS)
def test_each_answer_is_written_as_it_comes(writer_of: object) -> None:
    stream = io.StringIO()
    writer = writer_of(Output(stream, "x"))  # type: ignore[operator]
    for answer in ANSWERS:
        before = len(stream.getvalue())
        writer.write(answer)
        assert len(stream.getvalue()) > before


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    with open_output(path, "--csv") as output:
        output.write("new")
        assert path.read_text() == "old"
    assert contents(tmp_path) == {"out.csv": b"new"}
    interrupt(path, live=False)
    assert contents(tmp_path) == {"out.csv": b"new"}


def test_a_live_file_can_be_read_along_and_stays(tmp_path: Path) -> None:
    interrupt(tmp_path / "out.jsonl", live=True)
    assert (tmp_path / "out.jsonl").read_text() == "one\n"


def interrupt(path: Path, *, live: bool) -> None:
    def begin() -> None:
        with open_output(path, "--out", live=live) as output:
            output.write("one\n")
            assert live == (path.read_text() == "one\n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin()


class Full(io.StringIO):
    def write(self, text: str, /) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(FewshotError, match=r"^x: could not be written \(no space left on device\)"),
        open_output(tmp_path / "out.csv", "--csv"),
    ):
        Output(Full(), "x").write("text")
    monkeypatch.setattr("os.fsync", lambda _: Full().write(""))
    with (
        pytest.raises(FewshotError, match=r"^--csv .*out.csv: could not be written"),
        open_output(tmp_path / "out.csv", "--csv") as output,
    ):
        output.write("text")
    assert contents(tmp_path) == {}


def test_errors_of_others_are_not_laid_to_the_file(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), open_output(tmp_path / "out.csv", "--csv"):
        raise BrokenPipeError
    assert contents(tmp_path) == {}


def test_standard_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with open_output(STDOUT, "--csv") as output:
        output.write("text")
    assert stream.getvalue() == "text"
    monkeypatch.setattr(sys, "stdout", Full())
    with (
        pytest.raises(FewshotError, match=r"^stdout: could not be written"),
        open_output(STDOUT, "--csv") as output,
    ):
        output.write("text")
