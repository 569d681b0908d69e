"""A run is gone on with by its output alone: its state knows the flags."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import fewshot_lite.training.meta_train
import fewshot_lite.training.pretrain
from command_line import Run
from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.training.meta_config import PRESETS, MetaTrainConfig
from fewshot_lite.training.pretrain_config import PretrainConfig
from fewshot_lite.training.run_files import previous, state_path
from photos import draw_classes

#: Fields of every kind away from their defaults.
META = replace(
    PRESETS["default"],
    backbone="resnet18",
    tasks=77,
    lr=0.0123,
    lr_factor={"head": 2.0},
    h=None,
    seed=5,
    augment=False,
)


class Stopped(FewshotError):
    """In place of a run."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    draw_classes(tmp_path / "things", {"mug": 1, "keys": 1})
    return tmp_path


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configurations that runs would have been made by."""
    found: list[Any] = []

    def run(data: Path, output: Path, config: Any, **_: Any) -> None:
        found.append(config)
        raise Stopped("enough")

    monkeypatch.setattr(fewshot_lite.training.meta_train, "meta_train", run)
    monkeypatch.setattr(fewshot_lite.training.pretrain, "pretrain", run)
    return found


def leave_state(path: Path, config: Any) -> None:
    kept = asdict(config) | {"images": 9, "classes": 3}
    checkpoint.save(path, "state", {}, {"config": kept, "step": 1, "notes": {}})


@pytest.mark.parametrize("words", [["-o", "new", "--resume"], ["--resume", "--output", "new"]])
def test_meta_training_recalls_its_flags(
    run: Run, home: Path, configs: list[Any], words: list[str]
) -> None:
    leave_state(state_path(Path("new")), META)
    assert run("meta-train", "things", *words).err == "Error: enough\n"
    assert configs == [META]


def test_pretraining_too_and_a_damaged_state_gives_way_to_the_one_before(
    run: Run, home: Path, configs: list[Any]
) -> None:
    config = PretrainConfig(backbone="resnet18", epochs=3, lr=0.01, no_flip=("digits",))
    leave_state(previous(state_path(Path("new"))), config)
    state_path(Path("new")).write_bytes(b"cut")
    assert run("pretrain", "things", "-o", "new", "--resume").err == "Error: enough\n"
    assert configs == [config]


def test_flags_that_are_typed_win_so_that_others_are_refused_by_the_run(
    run: Run, home: Path, configs: list[Any]
) -> None:
    leave_state(state_path(Path("new")), META)
    Path("flags.toml").write_text("tasks = 88\n")
    run("meta-train", "things", "-o", "new", "--resume", "--lr", "0.5")
    run("meta-train", "things", "-o", "new", "--resume", "--config", "flags.toml")
    run("meta-train", "things", "--config", "flags.toml", "-o", "new", "--resume")
    run("meta-train", "things", "-o", "new", "--force")
    assert configs[0] == replace(META, lr=0.5)
    assert configs[1] == configs[2] == replace(META, tasks=88)
    assert configs[3] == MetaTrainConfig()
