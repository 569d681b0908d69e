"""`evaluate` on the command line: tables, files, going on, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch
import torchvision

from command_line import Outcome, Run, is_one_clear_line
from fewshot_lite.evaluation import tables
from fewshot_lite.personal.meta_model import MetaModel
from photos import SIZE, classes, contents, draw_classes, draw_photo, tiny_model

pytestmark = pytest.mark.slow  # seconds each, through the whole command


#: Small and quick.
FLAGS = ("--ways", 3, "--shots", 2, "--queries", 2, "--tasks", 3, "--precision", "float32")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and data, for tests that change neither."""
    home = tmp_path_factory.mktemp("evaluate")
    tiny_model().save(home / "model.safetensors")
    draw_classes(home / "data", classes(4, photos=5))
    draw_classes(home / "other light", classes(4, photos=4), seed=1)
    return home


def evaluate(run: Run, world: Path, *words: object, data: str | None = "data") -> Outcome:
    model = world / "model.safetensors"
    where = (world / data,) if data else ()
    backbone = ("--baseline-backbone", model)
    return run("evaluate", model, *words, *where, *backbone, *FLAGS)


def test_tables_show_models_differences_and_costs(run: Run, world: Path) -> None:
    outcome = evaluate(run, world, "cosine", "finetune-head")
    assert outcome.code == 0, outcome
    lines = outcome.out.splitlines()
    assert lines[0] == "Accuracy in % ± 95 % interval (3 tasks each)"
    assert "data, 3-way 2-shot" in lines[1]
    assert [line.split()[0] for line in lines[3:5]] == ["cosine", "finetune-head"]
    assert "Difference to" in outcome.out
    assert "shufflenet_v2_x0_5" in lines[-1]
    assert outcome.err == ""


def test_json_csv_and_plot(run: Run, world: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    csv, plot = tmp_path / "figures.csv", tmp_path / "figures.svg"
    outcome = evaluate(run, world, "knn", "--json", "--csv", csv, "--plot", plot)
    assert outcome.code == 0, outcome
    result = outcome.json
    assert result["finished"] is True
    assert [model["backbone"] for model in result["models"]] == ["shufflenet_v2_x0_5"] * 2
    assert result["models"][1]["image_size"] == SIZE
    (section,) = result["sections"]
    assert 0 <= section["models"][0]["accuracy"]["mean"] <= 1
    assert section["models"][0]["cost"]["adapt_macs"] > section["models"][0]["cost"]["query_macs"]
    assert len(csv.read_text().splitlines()) == 3
    assert plot.read_text().startswith("<?xml")
    assert sorted(contents(tmp_path)) == ["figures.csv", "figures.svg"]


def test_the_same_command_goes_on_where_it_was(run: Run, world: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    first = evaluate(run, world, "cosine", "--json", "--output", log)
    lines = log.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    log.write_text("".join(lines[:2]))
    again = evaluate(run, world, "cosine", "--json", "--output", log)
    assert (first.code, again.code) == (0, 0)
    assert _accuracies(first) == _accuracies(again)
    assert log.read_text().splitlines(keepends=True)[:2] == lines[:2]
    assert len(log.read_text().splitlines()) == 4
    is_one_clear_line(
        evaluate(run, world, "cosine", "--output", log, "--seed", "1"), 2, "holds a comparison of"
    )
    forced = evaluate(run, world, "cosine", "--output", log, "--seed", "1", "--force", "--json")
    assert forced.code == 0


def _accuracies(outcome: Outcome) -> list[float]:
    return [m["accuracy"]["mean"] for s in outcome.json["sections"] for m in s["models"]]


def test_folders_at_the_end_are_data_sets(
    run: Run, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    draw_classes(world / "cosine" / "thing", {"a": 1})  # of a model's name
    outcome = evaluate(run, world, "cosine", "data", "--json", data="other light")
    assert outcome.code == 0, outcome
    names = [f"{name}, 3-way 2-shot" for name in ("data", "other light", "cosine")]
    sections = {section["name"]: section for section in outcome.json["sections"]}
    assert {*names[:2]} < sections.keys()
    assert names[2] not in sections
    assert [model["name"] for model in outcome.json["models"]][1:] == ["cosine"]


def test_support_and_queries_from_two_folders(run: Run, world: Path) -> None:
    pair = ("--support", world / "data", "--query", world / "other light")
    outcome = evaluate(run, world, "cosine", *pair, "--json", data=None)
    assert outcome.code == 0, outcome
    assert outcome.json["sections"][0]["name"] == "data → other light, 3-way 2-shot"


def test_a_photo_that_cannot_be_read_is_named_and_left_out(
    run: Run, world: Path, tmp_path: Path
) -> None:
    draw_classes(tmp_path / "data", classes(3, photos=5))
    (tmp_path / "data" / "thing 1" / "broken.jpg").write_bytes(b"no photo")
    backbone = ("--baseline-backbone", world / "model.safetensors")
    outcome = run("evaluate", "cosine", tmp_path / "data", *backbone, *FLAGS)
    assert outcome.code == 1
    assert "broken.jpg: not an image" in outcome.err
    assert "Accuracy" in outcome.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nearest", "DATA"], 2, "nearest: no such model. Give default, a file, or cosine"),
        (["gone.safetensors", "DATA"], 2, "gone.safetensors: no such file"),
        (["DATA"], 2, "No model to evaluate"),
        (["cosine", "nowhere"], 2, "nowhere: no such folder"),
        (["cosine", "DATA", "DATA"], 2, "a data set 'data' before it.* Give each once"),
        (["DATA", "cosine", "DATA"], 2, "data: a folder, no model. Name the models first"),
        (["cosine", "DATA", "--shots", "x"], 2, "--shots x: give a number"),
        (["cosine", "DATA", "--ways", "1"], 2, "--ways 1: must be at least 2"),
        (["cosine", "DATA", "--tasks", "0"], 2, "--tasks 0"),
        (["cosine", "DATA", "--micro-batch", "0"], 2, "--micro-batch 0"),
        (["cosine", "DATA", "--image-size", "7"], 2, "--image-size 7"),
        (["cosine", "DATA", "--finetune-lr", "0"], 2, "--finetune-lr"),
        (["cosine", "--support", "DATA"], 2, "--support: needs --query"),
        (["cosine", "DATA", "--plot", "x.doc"], 2, "--plot x.doc: must end in"),
        (["cosine", "DATA", "--csv", "DATA"], 2, "--csv .*: a folder"),
        (["cosine:MODEL", "DATA", "--shots", "4"], 1, "class 'thing 0' has 5 readable photos"),
        (["PERSONAL", "DATA"], 2, "whose classes are fixed"),
        (["refine:resnet18", "DATA"], 2, "refine:resnet18: there is no checkpoint resnet18"),
        (["film-ridge:gone", "DATA"], 2, "film-ridge:gone: there is no checkpoint gone"),
        (["cosine:unheard_of", "DATA"], 2, "there is no such network"),
        (["cosine:DATA", "DATA"], 2, "is a folder. Give a checkpoint"),
        (["cosine:PERSONAL", "DATA"], 2, "Error: cosine:.*: a personal file, not a backbone"),
        (["cosine:DATA/thing 0/00.png", "DATA"], 1, "Error: cosine:.*00.png: .*00.png: damaged"),
        (["", "DATA"], 2, "A model's name is empty"),
        (["MODEL", ""], 2, "DATA is an empty word"),
        (["MODEL", "DATA", "--support", "DATA", "--query", "x"], 2, "take its place. Leave it"),
        (["MODEL", "DATA", "-o", "new.x", "--csv", "./new.x"], 2, "same file as --output"),
        (["MODEL", "DATA", "-o", "MODEL", "--force"], 2, "--output .*: the name of a model"),
        (["MODEL", "DATA", "--tracks", "x"], 2, "--tracks x: there is no such data set"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, world: Path, words: list[str], code: int, message: str
) -> None:
    personal = world / "personal.safetensors"
    if "PERSONAL" in " ".join(words) and not personal.exists():
        model = MetaModel.load(world / "model.safetensors")
        model.adapt(world / "data").save(personal)
    places = {"DATA": "data", "MODEL": "model.safetensors", "PERSONAL": personal.name}
    spelled = [_spelled(word, places, world) for word in words]
    is_one_clear_line(run("evaluate", *spelled, "--queries", 2), code, message)


def test_a_model_without_its_ending_is_not_written_over(
    run: Run, world: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.write_bytes((world / "model.safetensors").read_bytes())
    before = contents(tmp_path)
    for flag in ("-o", "--csv"):
        outcome = run("evaluate", model, world / "data", flag, model, "--force")
        is_one_clear_line(outcome, 2, "the same file as .*model")
    assert contents(tmp_path) == before


def _spelled(word: str, places: dict[str, str], world: Path) -> str:
    for name, place in places.items():
        word = word.replace(name, str(world / place))
    return word


def test_a_missing_extra_is_named(run: Run, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Exception, match=r"pip install 'fewshot-lite\[plot\]'"):
        tables.require_matplotlib()


def test_folders_of_other_classes_are_named(run: Run, world: Path, tmp_path: Path) -> None:
    draw_classes(tmp_path / "b", {**classes(3, photos=5), "thing X": 5})
    pair = ("--support", world / "data", "--query", tmp_path / "b")
    outcome = evaluate(run, world, *pair, data=None)
    is_one_clear_line(outcome, 1, "data alone has 'thing 3'.*b alone has 'thing X'")


@pytest.mark.parametrize("words", [["--help"], ["nearest", "."], ["cosine", ".", "--shots", "x"]])
def test_help_and_wrong_arguments_do_not_wait_for_torch(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from fewshot_lite.cli import app\n"
        f"sys.argv = {json.dumps(['fewshot-lite', 'evaluate', *words])}\n"
        "try:\n    app.main()\n"
        "finally:\n    print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "False"


def draw_orbit(folder: Path) -> Path:
    """ORBIT's tree of two test users with two objects each; frames are tiny real JPEGs."""
    for user in ("P1", "P2"):
        for number, thing in enumerate(("keys", "mug")):
            for kind, videos in (("clean", 1), ("clutter", 2)):
                for v in range(videos):
                    name = f"{user}--{thing}--{kind}--v{v}"
                    video = folder / "test" / user / thing / kind / name
                    video.mkdir(parents=True)
                    for frame in range(4):
                        photo = draw_photo(number, Random(f"{name}/{frame}"))
                        photo.save(video / f"{name}-{frame + 1:05d}.jpg")
    return folder


def test_orbit_is_recognised_and_scored_by_video(run: Run, world: Path, tmp_path: Path) -> None:
    data, submission = draw_orbit(tmp_path / "orbit"), tmp_path / "submission.json"
    words = ("--orbit", 2021, "--tasks", 2, "--json", "--precision", "float32")
    outcome = run("evaluate", world / "model.safetensors", data, *words, "--submission", submission)
    assert outcome.code == 0, outcome
    result = outcome.json
    assert result["protocol"].startswith("ORBIT 2021")
    assert [section["name"] for section in result["sections"]] == ["P1", "P2", "all"]
    (metrics,) = result["orbit"].values()
    assert set(metrics) == {"frame_accuracy", "frames_to_recognition", "video_accuracy"}
    over_all = result["sections"][-1]["models"][0]
    assert metrics["frame_accuracy"]["videos"] == 2 * 2 * 4
    assert over_all["accuracy"]["mean"] == pytest.approx(
        metrics["frame_accuracy"]["over_videos"]["mean"]
    )
    written = json.loads(submission.read_text())
    assert [len(tasks) for tasks in written.values()] == [2, 2]
    assert "the challenge wants 50" in outcome.err


def test_a_submission_is_of_orbit_alone(run: Run, world: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    outcome = evaluate(run, world, "--submission", tmp_path / "s.json", "--output", log)
    is_one_clear_line(outcome, 2, "for ORBIT's protocol only")
    assert not contents(tmp_path), "found out after the work was done"


def test_an_interrupted_run_says_how_to_go_on_and_does(
    run: Run, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr("fewshot_lite.core.stopping.StopRequest.__bool__", lambda self: True)
        stopped = evaluate(run, world, "--json", "--output", log)
    assert stopped.code == 130
    assert stopped.json["finished"] is False
    assert "The same command goes on" in stopped.err
    assert len(log.read_text().splitlines()) == 2
    again = evaluate(run, world, "--json", "--output", log)
    assert again.code == 0
    assert again.json["finished"] is True
    assert _accuracies(again) == _accuracies(evaluate(run, world, "--json"))


@pytest.mark.parametrize("model", ["default", "cosine"])
def test_without_the_shipped_model_that_is_said(
    run: Run, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr("fewshot_lite.evaluation.names.models_folder", lambda: tmp_path)
    outcome = run("evaluate", model, world / "data")
    is_one_clear_line(outcome, 2, f"{model}: the shipped model is not there")


def test_weights_that_cannot_be_had_leave_stdout_alone(
    run: Run, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        print("Downloading")  # as torch.hub does
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", fail)
    outcome = run("evaluate", "cosine:resnet18", world / "data", "--json")
    assert outcome.code == 1
    assert outcome.out == ""
    assert "cosine:resnet18: The ImageNet weights of resnet18 could not be had" in outcome.err
    assert "--weights" not in outcome.err


def test_torchvisions_files_are_of_the_network_they_are_named_after(
    run: Run, world: Path, tmp_path: Path
) -> None:
    network = torchvision.models.shufflenet_v2_x0_5(weights=None)
    path = tmp_path / "shufflenet_v2_x0_5-f707e7126e.pth"
    torch.save(network.state_dict(), path)
    outcome = run("evaluate", f"cosine:{path}", world / "data", *FLAGS, "--json")
    assert outcome.code == 0, outcome
    assert outcome.json["models"][0]["backbone"] == "shufflenet_v2_x0_5"


def test_files_of_figures_wait_until_all_is_done(
    run: Run, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--output", tmp_path / "log.jsonl", "--csv", tmp_path / "figures.csv")
    with monkeypatch.context() as patch:
        patch.setattr("fewshot_lite.core.stopping.StopRequest.__bool__", lambda self: True)
        stopped = evaluate(run, world, *words)
    assert stopped.code == 130
    assert "Files of figures are written once all tasks are done" in stopped.err
    assert contents(tmp_path).keys() == {"log.jsonl"}
    assert evaluate(run, world, *words).code == 0, "the same command could not go on"
    assert contents(tmp_path).keys() == {"figures.csv", "log.jsonl"}
