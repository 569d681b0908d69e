"""Flags from a file and a preset: what wins, what is refused, and what comes out again."""

from __future__ import annotations

import re
import tomllib
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

from command_line import run_lines
from fewshot_lite.cli import app as cli
from fewshot_lite.cli.config_file import as_flags, to_toml
from fewshot_lite.core.config import flag, settings_of
from fewshot_lite.training.meta_config import PRESETS, MetaTrainConfig
from fewshot_lite.training.pretrain_config import PretrainConfig
from fewshot_lite.training.tune_config import TuneConfig


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """What --show-config prints, parsed, or the error."""

    def show(*words: object) -> dict[str, object] | str:
        line = ["fewshot-lite", "meta-train", *map(str, words), "--show-config"]
        monkeypatch.setattr("sys.argv", line)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return err if ended.value.code else tomllib.loads(out)

    return show


def test_presets_are_valid_and_the_paper_is_the_papers() -> None:
    for preset in PRESETS.values():
        preset.check()
    paper = PRESETS["paper"]
    assert (paper.lr, paper.optimizer, paper.schedule) == (1e-3, "adam", "constant")
    assert (paper.tasks_per_step, paper.tasks, paper.h) == (16, 10_000, 40)
    assert (paper.max_support, paper.max_way, paper.image_size) == (500, 50, 224)
    assert paper.backbone == "efficientnet_b0"
    assert (paper.root, paper.fixed_temperature, paper.film_layers) == (False, True, "depthwise")


def test_the_paper_modulates_as_many_values_as_the_published_code() -> None:
    from fewshot_lite.learners import SimpleCnaps
    from fewshot_lite.networks.backbone import Backbone
    from fewshot_lite.networks.film import modulated_layers

    paper = PRESETS["paper"]
    backbone = Backbone("efficientnet_b0", 32)
    layers = modulated_layers(backbone, paper.film_layers)
    assert len(layers) == 18
    assert sum(2 * layer.weight.numel() for layer in layers.values()) == 20_544
    learner = SimpleCnaps(backbone, root=False, fixed_temperature=True, film_layers="depthwise")
    generated = learner.norm_parameters(torch.zeros(64))
    assert sum(value.numel() for value in generated.values()) == 20_544
    assert (float(learner.head.beta), float(learner.head.log_temperature.exp())) == (1, 1)
    assert [group["name"] for group in learner.parameter_groups(1.0)] == ["set-encoder", "film"]


def test_line_over_file_over_preset_over_default(shown: object, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('tasks = 50\nmax_way = 30\nh = "all"\nrotate = ["cards"]\npreset = "paper"\n')
    found = shown("--config", file, "--tasks", 60)  # type: ignore[operator]
    assert found["tasks"] == 60
    assert (found["max-way"], found["h"], found["rotate"]) == (30, "all", ["cards"])
    assert found["image-size"] == 224
    assert found["min-way"] == 5
    for words in (
        ["--preset", "default", "--config", file],
        ["--config", file, "--preset=default"],
    ):
        other = shown(*words)  # type: ignore[operator]
        assert (other["tasks"], other["max-way"], other["tasks-per-step"]) == (50, 30, 8)


def test_what_is_shown_can_be_given_again(shown: object, tmp_path: Path) -> None:
    words = ["--preset", "paper", "--lr-factor", "film=0.5", "--no-flip", 'a "b"\\\n', "--h", "all"]
    words += ["--ema", "0.99", "--unseen-only", "--output", "m.safetensors", "--no-flip", "ü"]
    words += ["--validate-every", "5"]
    first = shown(*words)  # type: ignore[operator]
    assert first["no-flip"] == ['a "b"\\\n', "ü"]
    assert first["lr-factor"] == {"film": 0.5}
    file = tmp_path / "shown.toml"
    file.write_text(to_toml(first), "utf-8")
    assert shown("--config", file) == first  # type: ignore[operator]


def test_the_defaults_are_the_configurations(shown: object) -> None:
    found = shown()  # type: ignore[operator]
    assert found == tomllib.loads(to_toml(as_flags(MetaTrainConfig()))) | {"device": "auto"}


@pytest.mark.parametrize(
    ("name", "config"),
    [("meta-train", MetaTrainConfig), ("pretrain", PretrainConfig), ("tune", TuneConfig)],
)
def test_every_field_is_a_flag_with_help(name: str, config: type[Any]) -> None:
    command = get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    options = {option.name: option for option in command.params}
    for field, _, item in settings_of(config):
        assert flag(field) in options[field].opts
        assert options[field].help.partition(" [dim]")[0] == item.help
        assert item.help.endswith(".")


def test_every_flag_can_be_in_a_file(shown: object, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        'data = "d"\noutput = "m.safetensors"\nvalidate = "v"\ncache = "c"\ndevice = "cpu"\n'
        'tensorboard = "t"\nplot = "p.png"\nworkers = 2\nresume = true\nforce = true\njson = true\n'
    )
    found = shown("--config", file)  # type: ignore[operator]
    given = tomllib.loads(file.read_text())
    shown_again = given.keys() - {"data", "resume", "force", "json"}
    assert {name: found[name] for name in shown_again} == {
        name: given[name] for name in shown_again
    }


def test_flags_of_learners_by_gradient(shown: object, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('learner = "imaml"\nlambda = 3\npattern = "00011"\nrotate = ["cards"]\n')
    found = shown("--config", file, "--shot", 2, "--no-augment")  # type: ignore[operator]
    assert (found["lambda"], found["pattern"], found["rotate"]) == (3.0, "00011", ["cards"])
    assert (found["shot"], found["augment"]) == (2, False)


def test_a_configuration_of_every_kind_of_value_survives(shown: object, tmp_path: Path) -> None:
    config = replace(
        MetaTrainConfig(),
        learner="protonets",
        metric="cosine",
        lr_factor={"head": 2.0},
        rotate=("a", "b"),
        no_flip=("x",),
        micro_batch=7,
        clip_norm=2.0,
        lr=1e-05,
    )
    file = tmp_path / "c.toml"
    file.write_text(to_toml(as_flags(config)))
    found = shown("--config", file)  # type: ignore[operator]
    assert found == as_flags(config) | {"device": "auto"}
    assert set(asdict(config)) == {field.name for field in fields(MetaTrainConfig)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("tasks = 5.5", "tasks must be a whole number, not 5.5"),
        ("tasks = true", "tasks must be a whole number, not True"),
        ('lr = "high"', "lr must be a number, not 'high'"),
        ("unseen-only = 1", "unseen-only must be true or false, not 1"),
        ('no-flip = "cards"', "no-flip must be a list of texts, not 'cards'"),
        ("h = 1.5", "h must be a whole number or 'all', not 1.5"),
        ("learner = 3", "learner must be a text, not 3"),
        ('lr-factor = {head = "a"}', "lr-factor must be a table of numbers"),
        ("taks = 5", "there is no flag 'taks'. Did you mean tasks?"),
        ("[tasks]\nn = 1", "tasks must be a whole number"),
        ("config = 'a'", "there is no flag 'config'"),
        ("tasks = ", "not TOML"),
        ("tasks = " + "[" * 2000 + "]" * 2000, "not TOML"),
        ("tasks = 0", "--tasks 0: must be at least 1"),
        ("schedule = 'linear'", "Invalid value for '--schedule': 'linear' is not one of"),
        ("preset = 'nope'", "--preset nope: must be default or paper"),
    ],
)
def test_files_that_make_no_sense(
    shown: object, tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(content)
    found = shown("--config", file)  # type: ignore[operator]
    assert isinstance(found, str)
    assert found.startswith("Error: ")
    assert found.count("\n") == 1
    assert re.search(message, found)


def test_a_file_that_is_not_there(shown: object, tmp_path: Path) -> None:
    for path, what, remedy in (("no", "no such file", "Check its name"), (".", "is a", "Give the")):
        said = shown("--config", tmp_path / path)  # type: ignore[operator]
        assert re.search(rf"cannot be read \({what}.*\)\. {remedy}", said)
    (tmp_path / "latin").write_bytes(b'learner = "\xe4"')
    assert "not TOML" in shown("--config", tmp_path / "latin")  # type: ignore[operator]


def test_showing_comes_without_torch() -> None:
    found, _ = run_lines([["meta-train", "--preset", "paper", "--show-config"]])
    assert found[1][1:3] == (0, False)
