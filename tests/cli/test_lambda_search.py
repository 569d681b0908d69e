"""`lambda-search` on the command line, and `evaluate --pattern`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from command_line import Run, is_one_clear_line
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.maml.maml import FirstOrderMaml
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.personal.meta_model import MetaModel
from photos import classes, contents, draw_classes, tiny_model

pytestmark = pytest.mark.slow


SIZE = 16
#: Small and quick.
FLAGS = ("--way", 2, "--shots", 1, "--queries", 1, "--tasks", 2, "--inner-steps", 1)
FEW = (*FLAGS, "--max-patterns", 4)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("lambda")
    torch.manual_seed(0)
    for name, way in (("model", None), ("fixed", 2)):
        learner = FirstOrderMaml(
            Backbone("conv4", SIZE).eval(), inner_head="learned" if way else "means", way=way
        )
        MetaModel(learner, SIZE).save(home / f"{name}.safetensors")
    tiny_model().save(home / "cnaps.safetensors")
    draw_classes(home / "data", classes(3, photos=4))
    return home


def test_the_pattern_is_stored_and_used(run: Run, world: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.safetensors"
    model, data = world / "model.safetensors", world / "data"
    outcome = run("lambda-search", model, data, *FEW, "--max-drop", 1, "-o", new)
    assert outcome.code == 0, outcome
    lines = outcome.out.splitlines()
    assert lines[0] == "Accuracy against time to adapt: 2-way 1-shot, 1 inner step, 2 tasks"
    assert lines[1].startswith("The front of 4 patterns (a greedy search); digits: block1, block2")
    assert any("full" in line and line.startswith("11111") for line in lines)
    assert any("chosen" in line for line in lines)
    assert outcome.err == ""
    learner = MetaModel.load(new).learner
    assert isinstance(learner, GradientLearner)
    assert f"Chosen: {learner.pattern}" in outcome.out
    adapted = run("adapt", data, "--base", new, "--output", tmp_path / "mine.safetensors")
    assert adapted.code == 0, adapted


def test_the_model_itself_is_replaced_only_by_force(run: Run, world: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes((world / "model.safetensors").read_bytes())
    before = contents(tmp_path)
    words = ("lambda-search", model, world / "data", *FEW, "--output", model)
    is_one_clear_line(run(*words), 2, "exists already. Use --force")
    assert contents(tmp_path) == before
    outcome = run(*words, "--force", "--json")
    assert outcome.code == 0, outcome
    assert outcome.json["output"] == str(model)
    record = MetaModel.load(model).record["lambda_search"]
    assert record["chosen"]["pattern"] == outcome.json["chosen"]["pattern"]
    assert list(contents(tmp_path)) == ["model.safetensors"]


@pytest.mark.parametrize("kind", ["finetune", "finetune-film"])
def test_fine_tuning_is_searched_and_nothing_stored(
    run: Run, world: Path, tmp_path: Path, kind: str
) -> None:
    plot = tmp_path / "figure.svg"
    pytest.importorskip("matplotlib")
    searched = f"{kind}:{world / 'model.safetensors'}"
    outcome = run("lambda-search", searched, world / "data", *FEW, "--json", "--plot", plot)
    assert outcome.code == 0, outcome
    patterns = [one["pattern"] for one in outcome.json["patterns"]]
    assert patterns[0] == "11111"
    assert all(pattern.endswith("1") for pattern in patterns)
    assert outcome.json["output"] is None
    assert plot.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["CNAPS", "DATA"], 2, "simple-cnaps has no inner loop. Give a checkpoint of maml"),
        (["cosine:MODEL", "DATA"], 2, "cosine updates no layers of a network. Give a checkpoint"),
        (["finetune-head:MODEL", "DATA"], 2, "finetune-head updates no layers"),
        (["gone.safetensors", "DATA"], 2, "gone.safetensors: no such file"),
        (["MODEL", "nowhere"], 2, "nowhere: no such folder"),
        (["MODEL", "DATA", "--way", "4"], 1, "data: has 3 classes, too few for 4-way tasks"),
        (["MODEL", "DATA", "--way", "1"], 2, "--way 1: must be at least 2"),
        (["FIXED", "DATA", "--way", "3"], 2, "--way 3: the head of .* was learned for 2"),
        (["MODEL", "DATA", "--way", "2", "--shots", "9"], 1, "4 readable photos, too few for 9"),
        (
            ["MODEL", "DATA", "--max-drop", "-0.1"],
            2,
            "--max-drop -0.1: must be at least 0 and at most 1",
        ),
        (
            ["MODEL", "DATA", "--max-drop", "1.5"],
            2,
            "--max-drop 1.5: must be at least 0 and at most 1",
        ),
        (
            ["MODEL", "DATA", "--max-drop", "nan"],
            2,
            "--max-drop nan: must be at least 0 and at most 1",
        ),
        (["MODEL", "DATA", "--tasks", "0"], 2, "--tasks 0: must be more than 0"),
        (["MODEL", "DATA", "--inner-steps", "0"], 2, "--inner-steps 0: must be more than 0"),
        (["MODEL", "DATA", "--max-patterns", "1"], 2, "--max-patterns 1: must be at least 2"),
        (["MODEL", "DATA", "-o", "MODEL"], 2, "--output .*: exists already. Use --force"),
        (["MODEL", "DATA", "-o", "DATA"], 2, "--output .*: a folder"),
        (["MODEL", "DATA", "--plot", "x.doc"], 2, "--plot x.doc: must end in .png"),
        (
            ["MODEL", "DATA", "--plot", "a.png", "-o", "a.png"],
            2,
            "--output a.png: the name of a photo",
        ),
        (["finetune:MODEL", "DATA", "-o", "x"], 2, "--output x: .* has no pattern to store"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, world: Path, words: list[str], code: int, message: str
) -> None:
    before = contents(world)
    is_one_clear_line(run("lambda-search", *_spelled(words, world)), code, message)
    assert contents(world) == before


def _spelled(words: list[str], world: Path) -> list[str]:
    places = {name.upper(): world / f"{name}.safetensors" for name in ("model", "fixed", "cnaps")}
    for name, place in (places | {"DATA": world / "data"}).items():
        words = [word.replace(name, str(place)) for word in words]
    return words


def test_without_matplotlib_that_is_said_before_the_work(
    run: Run, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = (world / "model.safetensors", world / "data", "--plot", tmp_path / "x.png")
    is_one_clear_line(run("lambda-search", *words), 1, r"--plot: .*pip install")


def test_an_interrupted_search_shows_what_it_has_and_stores_nothing(
    run: Run, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter(range(1000))
    monkeypatch.setattr(
        "fewshot_lite.core.stopping.StopRequest.__bool__", lambda self: next(asked) > 4 + 4
    )
    model = world / "model.safetensors"
    words = (model, world / "data", *FEW, "-o", tmp_path / "x", "--plot", tmp_path / "x.png")
    outcome = run("lambda-search", *words)
    assert outcome.code == 130
    assert "1 task\n" in outcome.out
    assert "Interrupted after 1 task; nothing was written." in outcome.err
    assert contents(tmp_path) == {}
    monkeypatch.setattr("fewshot_lite.core.stopping.StopRequest.__bool__", lambda self: True)
    outcome = run("lambda-search", *words)
    assert (outcome.code, outcome.out) == (130, "")


def test_evaluate_takes_a_pattern_for_fine_tuning(run: Run, world: Path) -> None:
    tuned = f"finetune:{world / 'model.safetensors'}"
    flags = ("--ways", 2, "--shots", 1, "--queries", 1, "--tasks", 2, "--finetune-steps", 1)
    words = ("evaluate", tuned, world / "data", *flags, "--precision", "float32")
    outcome = run(*words, "--pattern", "00011", "--json")
    assert outcome.code == 0, outcome
    assert outcome.json["models"][0]["pattern"] == "00011"
    is_one_clear_line(run(*words, "--pattern", "011"), 2, f"{tuned}: --pattern 011: must have 5")
    is_one_clear_line(run(*words, "--pattern", "11110"), 2, "must end in 1")
    is_one_clear_line(run(*words, "--pattern", "00011,00011"), 2, "must be one row")


@pytest.mark.parametrize(
    "words", [["--help"], ["cosine", "."], ["finetune", ".", "--max-drop", "2"]]
)
def test_help_and_wrong_arguments_do_not_wait_for_torch(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from fewshot_lite import cli\n"
        f"sys.argv = {json.dumps(['fewshot-lite', 'lambda-search', *words])}\n"
        "try:\n    cli.main()\n"
        "finally:\n    print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "False"
