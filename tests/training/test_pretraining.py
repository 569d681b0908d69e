"""Pre-training: it learns, it can be killed and resumed, and it says which classes it has seen."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.data.augment import random_views
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.training.meta_train import meta_train
from fewshot_lite.training.pretrain import pretrain
from photos import QUICK, QUICK_PRETRAIN, classes, contents, draw_classes


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_classes(tmp_path_factory.mktemp("data") / "shapes", classes(6, photos=8))


@pytest.fixture(scope="module")
def undisturbed(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `QUICK_PRETRAIN` on `shapes` gives if it is left alone."""
    output = tmp_path_factory.mktemp("undisturbed") / "backbone.safetensors"
    assert pretrain(shapes, output, QUICK_PRETRAIN).finished
    return output


@pytest.fixture
def disturbed(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Have something happen during a step of this number."""

    def at(step: int, disturb: Callable[[], None]) -> None:
        calls = 0

        def views(*args: Any) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if calls == step:
                disturb()
            return random_views(*args)

        monkeypatch.setattr("fewshot_lite.training.supervised.random_views", views)

    return at


def log_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.with_suffix(".jsonl").read_text().splitlines()]


def test_a_run_leaves_a_backbone_and_a_log_and_nothing_else(
    shapes: Path, undisturbed: Path
) -> None:
    assert set(contents(undisturbed.parent)) == {"backbone.safetensors", "backbone.jsonl"}
    backbone, source = load_backbone(None, str(undisturbed), 32)
    assert backbone.name == "shufflenet_v2_x0_5"
    meta = source["pretrained"]
    assert meta["steps"] == [18, 18]
    assert meta["classes"] == {"shapes": [f"thing {k}" for k in range(6)]}
    assert meta["image_size"] == 32
    assert [line["event"] for line in log_of(undisturbed)] == ["start", "step", "end"]


def test_a_first_size_that_a_network_cannot_take_is_refused_by_its_flag(
    shapes: Path, tmp_path: Path
) -> None:
    config = replace(QUICK_PRETRAIN, backbone="conv4", min_image_size=32, image_size=64)
    with pytest.raises(UsageError, match=r"^--min-image-size 32: conv4 cannot .*for images of 64"):
        pretrain(shapes, tmp_path / "b.safetensors", config)


@pytest.mark.slow
def test_it_learns(shapes: Path, tmp_path: Path) -> None:
    config = replace(QUICK_PRETRAIN, backbone="resnet18", epochs=6, batch_size=24)
    result = pretrain(shapes, tmp_path / "b.safetensors", config)
    assert result.accuracy > 0.4  # by chance: 0.17


@pytest.mark.slow
def test_resumed_after_a_sudden_end_it_is_the_undisturbed_run(
    shapes: Path,
    undisturbed: Path,
    tmp_path: Path,
    disturbed: Callable[[int, Callable[[], None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die() -> None:
        raise MemoryError

    output = tmp_path / "backbone.safetensors"
    disturbed(9, die)
    with pytest.raises(MemoryError):
        pretrain(shapes, output, QUICK_PRETRAIN)
    assert checkpoint.read_meta(output)["steps"] == [6, 18]
    monkeypatch.undo()
    assert pretrain(shapes, output, QUICK_PRETRAIN, resume=True).finished
    assert output.read_bytes() == undisturbed.read_bytes()
    assert set(contents(tmp_path)) == {"backbone.safetensors", "backbone.jsonl"}


@pytest.mark.slow
def test_ctrl_c_in_an_epoch_leaves_a_usable_backbone_and_the_run_goes_on(
    shapes: Path,
    undisturbed: Path,
    tmp_path: Path,
    disturbed: Callable[[int, Callable[[], None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "backbone.safetensors"
    disturbed(9, lambda: os.kill(os.getpid(), signal.SIGINT))
    result = pretrain(shapes, output, QUICK_PRETRAIN)
    assert (result.finished, result.step, result.total) == (False, 9, 18)
    load_backbone(None, str(output), 32)
    monkeypatch.undo()
    assert pretrain(shapes, output, QUICK_PRETRAIN, resume=True).finished
    assert output.read_bytes() == undisturbed.read_bytes()


def test_resuming_needs_a_state_and_the_same_run(shapes: Path, tmp_path: Path) -> None:
    output = tmp_path / "b.safetensors"
    with pytest.raises(UsageError, match="nothing to resume"):
        pretrain(shapes, output, QUICK_PRETRAIN, resume=True)
    assert not contents(tmp_path)


@pytest.mark.slow
def test_classes_left_out_are_what_meta_training_can_be_kept_to(
    shapes: Path, tmp_path: Path
) -> None:
    backbone, model = tmp_path / "b.safetensors", tmp_path / "m.safetensors"
    pretrain(shapes, backbone, replace(QUICK_PRETRAIN, epochs=1, leave_out=0.5))
    seen = checkpoint.read_meta(backbone)["classes"]["shapes"]
    assert len(seen) == 3
    config = replace(QUICK, backbone=None, weights=str(backbone), tasks=2, unseen_only=True)
    meta_train(shapes, model, config)
    record = MetaModel.load(model).record
    assert {*seen, *record["data"]["shapes"]} == {f"thing {k}" for k in range(6)}
    assert not {*seen} & {*record["data"]["shapes"]}
    assert record["pretraining"]["classes"] == {"shapes": seen}


def test_unseen_only_needs_a_file_that_says_what_was_seen(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--unseen-only.*--leave-out"):
        meta_train(shapes, tmp_path / "m", replace(QUICK, unseen_only=True))


def test_unseen_only_needs_classes_that_are_left(
    shapes: Path, undisturbed: Path, tmp_path: Path
) -> None:
    config = replace(QUICK, backbone=None, weights=str(undisturbed), unseen_only=True)
    with pytest.raises(FewshotError, match="Too few classes"):
        meta_train(shapes, tmp_path / "m", config)
    assert not contents(tmp_path)


def test_several_data_sets_share_the_backbone(shapes: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    draw_classes(data / "signs", {"1": 5, "2": 5})
    draw_classes(data / "mugs", classes(3, photos=5))
    output = tmp_path / "b.safetensors"
    pretrain(data, output, replace(QUICK_PRETRAIN, epochs=1, no_flip=("signs",)))
    names = checkpoint.read_meta(output)["classes"]
    assert names == {"mugs": ["thing 0", "thing 1", "thing 2"], "signs": ["1", "2"]}


def test_names_that_no_data_set_has_are_refused(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--no-flip digits: there is no such data set in"):
        pretrain(shapes, tmp_path / "b", replace(QUICK_PRETRAIN, no_flip=("digits",)))
    assert not contents(tmp_path)


@pytest.mark.parametrize(
    ("shots", "leave_out", "message"),
    [
        ({"only": 9}, 0.0, "too few classes"),
        ({"a": 5, "b": 5}, 0.5, "too few classes.*--leave-out"),
        ({"a": 0, "b": 0}, 0.0, "no photos"),
        ({"a": 1, "b": 0}, 0.0, "too few photos"),
    ],
)
def test_too_few_classes_or_photos(
    tmp_path: Path, shots: dict[str, int], leave_out: float, message: str
) -> None:
    data = draw_classes(tmp_path / "data", shots)
    before = contents(tmp_path)
    with pytest.raises(FewshotError, match=message):
        pretrain(data, tmp_path / "b", replace(QUICK_PRETRAIN, leave_out=leave_out))
    assert contents(tmp_path) == before


def test_photos_that_cannot_be_read_are_left_out_and_named(tmp_path: Path) -> None:
    data = draw_classes(tmp_path / "data", classes(2, photos=3))
    (data / "thing 1" / "00.png").write_bytes(b"")
    output = tmp_path / "b.safetensors"
    result = pretrain(data, output, replace(QUICK_PRETRAIN, epochs=1))
    assert result.unreadable == 1
    (line,) = (line for line in log_of(output) if line["event"] == "unreadable")
    assert Path(line["path"]).name == "00.png"


def test_a_loss_that_is_not_finite_ends_the_run_without_a_backbone(
    shapes: Path, tmp_path: Path
) -> None:
    output = tmp_path / "b.safetensors"
    with pytest.raises(FewshotError, match=r"not finite at step \d+.*lower --lr"):
        pretrain(shapes, output, replace(QUICK_PRETRAIN, lr=1e8))
    assert not output.exists()


def test_an_output_that_exists_needs_force(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("precious")
    with pytest.raises(UsageError, match=r"exists already.*--force"):
        pretrain(shapes, tmp_path / "b", QUICK_PRETRAIN)
    assert contents(tmp_path) == {"b": b"precious"}


def test_images_grow_to_their_full_size(shapes: Path, tmp_path: Path) -> None:
    output = tmp_path / "b.safetensors"
    config = replace(QUICK_PRETRAIN, epochs=4, batch_size=48, min_image_size=16)
    sizes = []
    pretrain(shapes, output, config, report=lambda p: sizes.append(p.values.get("px")))
    assert sizes[-1] == 32
