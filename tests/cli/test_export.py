"""`fewshot-lite export`: what it prints, what it exits with, and what it leaves on disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from command_line import Run, is_one_clear_line
from exported import exported_small_personal
from fewshot_lite.personal.exported_model import ExportedModel
from photos import contents, draw_classes, tiny_model


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, and files that are none; tests leave them as they are."""
    here = tmp_path_factory.mktemp("world")
    model = tiny_model()
    model.save(here / "base.safetensors")
    model.adapt(draw_classes(here / "things", {"mug": 3, "keys": 2})).save(
        here / "mine.safetensors"
    )
    (here / "text.safetensors").write_text("text")
    (here / "there.onnx").write_bytes(exported_small_personal())
    return here


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("export", 2, r"personal\.safetensors: no such file.*adapt"),
        ("export gone.safetensors", 2, r"gone\.safetensors: no such file"),
        ("export things", 2, "things: a folder"),
        ("export .", 2, ": a folder"),
        ("export text.safetensors", 1, r"text\.safetensors: not a safetensors file"),
        ("export mine.safetensors -o new.onnx --int8 gone", 2, "gone: no such folder"),
        ("export mine.safetensors -o new.onnx --int8 text.safetensors", 2, "a file, not a folder"),
        (
            "export mine.safetensors -o new.pt2 --format torch-export --int8 things",
            2,
            "--int8: goes with --format onnx, not with torch-export",
        ),
        (
            "export there.onnx -o new.onnx",
            2,
            r"there\.onnx: an export of a model\. Give the \.safe",
        ),
        ("export there.onnx --force", 2, r"there\.onnx: an export of a model\. Give the \.safe"),
        ("suggest things -m there.onnx", 2, r"there\.onnx: an export of a model\. Give the"),
        ("adapt things --base there.onnx", 2, r"there\.onnx: an export of a model\. Give the"),
        ("export base.safetensors", 2, r"base\.safetensors: a meta-trained model"),
        ("export mine.safetensors -o there.onnx", 2, r"there\.onnx: exists already.*--force"),
        ("export mine.safetensors -o no/p.onnx", 2, r"--output no/p\.onnx: there is no folder"),
        ("export mine.safetensors -o p.pt2", 2, r"--output p\.pt2: end it in \.onnx"),
        ("export mine.safetensors -o mine.safetensors --force", 2, r"end it in \.onnx"),
        ("export mine.safetensors --format pickle", 2, "--format"),
        ("classify things -m there.onnx --device cuda", 2, r"--device cuda: there\.onnx runs on"),
        ("classify things -m .", 2, r"--model \.: a folder"),
        ("classify gone.jpg -m there.onnx", 1, r"gone\.jpg: no such file"),
        ("info gone.onnx", 2, r"gone\.onnx: no such file"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    run: Run,
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(world)
    before = contents(world)
    is_one_clear_line(run(*command.split()), code, message)
    assert contents(world) == before


def test_info_tells_what_an_export_is(run: Run, world: Path) -> None:
    outcome = run("info", world / "there.onnx")
    assert outcome.code == 0, outcome
    assert "a personal model in ONNX" in outcome.out
    assert "thing 0 ü (6), thing 1 ü (6)" in outcome.out


def test_help_and_refusals_do_without_torch(world: Path) -> None:
    script = (
        "import sys; from fewshot_lite.cli.app import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'numpy', 'onnxruntime'} & set(sys.modules)"
    )
    for words, code in (["export", "--help"], 0), (["export", str(world / "gone")], 2):
        got = subprocess.run([sys.executable, "-c", script, *words], capture_output=True)
        assert got.returncode == code, got


@pytest.mark.slow
def test_what_is_exported_answers_as_the_model(run: Run, world: Path, tmp_path: Path) -> None:
    model = tmp_path / "mine.safetensors"
    model.write_bytes((world / "mine.safetensors").read_bytes())
    words = ("classify", world / "things", "--json", "-m")
    by_torch = run(*words, model, "--device", "cpu:0").json
    outcome = run("export", model, "--json")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert outcome.json["path"] == str(tmp_path / "mine.onnx")
    assert outcome.json["bytes"] == (tmp_path / "mine.onnx").stat().st_size
    assert outcome.json["class_names"] == ["keys", "mug"]
    assert ExportedModel.load(tmp_path / "mine.onnx").class_names == ("keys", "mug")
    by_onnx = run(*words, tmp_path / "mine.onnx").json
    assert [a["label"] for a in by_onnx] == [a["label"] for a in by_torch]
    shares = [a["probability"] for a in by_torch]
    assert [a["probability"] for a in by_onnx] == pytest.approx(shares, abs=1e-5)
    text = run("export", model, "--format", "torch-export", "-o", tmp_path / "mine.pt2")
    assert text.code == 0, text
    assert "On 20 images it answers as the model does" in text.out
