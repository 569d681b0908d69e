"""What is refused before the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_lite.core.errors import UsageError
from fewshot_lite.personal.bulk import Outputs
from fewshot_lite.personal.bulk.writers import STDOUT

STDOUT_TWICE = Outputs(csv=STDOUT, json=STDOUT)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "a").mkdir(parents=True)
    for name in ("model", "old.csv", "one", "in/x.jpg"):
        (tmp_path / name).write_text("x")
    return tmp_path


def out(**paths: str | bool) -> Outputs:
    return Outputs(**{k: Path(v) if isinstance(v, str) else v for k, v in paths.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (out(csv="old.csv"), "^--csv old.csv: exists already. Use --force"),
        (out(jsonl="nowhere/x"), "^--jsonl nowhere/x: there is no folder .*nowhere. Create it"),
        (out(csv="in"), "^--csv in: a folder"),
        (out(csv="model", force=True), "^--csv model: the same file as the model"),
        (out(csv="in/../model", force=True), "the same file as the model"),
        (out(csv="one", force=True), "^--csv one: the same file as one"),
        (out(csv="new", jsonl="./new"), "^--jsonl new: the same file as --csv"),
        (out(csv="in/x.jpg", force=True), "^--csv in/x.jpg: the name of a photo"),
        (out(csv="x.mp4", force=True), "^--csv x.mp4: the name of a video"),
        (out(jsonl="other.safetensors", force=True), "^--jsonl .*: the name of a model"),
        (out(csv="-", json="-"), "^--csv and --json: only one can go to stdout"),
        (out(sort_into="in"), "^--sort-into in: in is or lies in it"),
        (out(sort_into="."), "^--sort-into .: one is or lies in it"),
        (out(sort_into="old.csv"), "^--sort-into old.csv: old.csv is a file, not a folder"),
        (out(sort_into="nowhere/x"), "^--sort-into nowhere/x: there is no folder"),
        (out(sort_into="new", csv="new"), "^--sort-into new: the same path as --csv"),
        (out(sort_into="model"), "^--sort-into model: the same path as the model"),
        (out(link=True), "^--link: for --sort-into"),
    ],
)
def test_what_cannot_be_written_is_refused(outputs: Outputs, message: str, home: Path) -> None:
    before = sorted(home.rglob("*"))
    with pytest.raises(UsageError, match=message):
        outputs.check([Path("one"), Path("in")], Path("model"))
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize(
    "outputs",
    [
        out(),
        out(csv="in/out.csv", jsonl="-", sort_into="in/sorted", link=True),
        out(csv="old.csv", force=True),
        out(sort_into="sorted"),
        out(sort_into="in/a"),
        out(sort_into="inn"),
    ],
)
def test_what_can_be_is_not(outputs: Outputs) -> None:
    outputs.check([Path("one"), Path("in"), Path("gone.jpg")], Path("model"))
