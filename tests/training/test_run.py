"""What training loops share: state that restores exactly, a log that parses, a polite stop."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.stopping import StopRequest
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.training import state as training
from fewshot_lite.training.log import Averages, Log
from fewshot_lite.training.meta_setup import check_image_size, without_paths

CONFIG: dict[str, Any] = {
    "lr": 0.1,
    "h": 40,
    "image_size": None,
    "no_flip": ("signs",),
    "unseen_only": False,
    "images": 40,
}


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def adam(module: nn.Module) -> Optimizer:
    return Adam(module.parameters(), lr=0.01)


def sgd(module: nn.Module) -> Optimizer:
    return SGD(module.parameters(), lr=0.1, momentum=0.9, nesterov=True)


def steps(module: nn.Module, optimizer: Optimizer, numbers: range) -> None:
    for number in numbers:
        images = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        module(images).square().mean().backward()
        optimizer.step()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run.state.safetensors"
    module = network()
    training.save_state(path, module, adam(module), 4, CONFIG, {})
    return path


def load(path: Path, config: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    module = network()
    state = training.load_state(path, module, adam(module), config or CONFIG)
    return state.step, state.notes


@pytest.mark.parametrize("make", [adam, sgd])
def test_a_resumed_run_goes_on_exactly(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "run.state.safetensors"
    module = network().to(memory_format=torch.channels_last)
    optimizer = make(module)
    steps(module, optimizer, range(3))
    training.save_state(path, module, optimizer, 3, CONFIG, {"scores": {"a": 0.1 + 0.2}})
    steps(module, optimizer, range(3, 6))

    torch.manual_seed(99)  # other weights at first
    other = network().to(memory_format=torch.channels_last)
    again = make(other)
    state = training.load_state(path, other, again, CONFIG)
    step, notes = state.step, state.notes
    assert (step, notes) == (3, {"scores": {"a": 0.1 + 0.2}})
    steps(other, again, range(3, 6))

    for name, value in module.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    slots, slots_again = optimizer.state_dict()["state"], again.state_dict()["state"]
    assert len(slots) == len(list(module.parameters()))
    for index, values in slots.items():
        for name, value in values.items():
            assert torch.equal(torch.as_tensor(slots_again[index][name]), torch.as_tensor(value))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr": 0.2}, r"had --lr 0\.1, not --lr 0\.2"),
        ({"h": None}, "had --h 40, not --h all"),
        ({"image_size": 64}, "had no --image-size, not --image-size 64"),
        ({"no_flip": ()}, "had --no-flip signs, not no --no-flip"),
        ({"no_flip": ("signs", "cards")}, "not --no-flip signs --no-flip cards"),
        ({"unseen_only": True}, "had no --unseen-only, not --unseen-only"),
        ({"images": 41}, "had 40 images, not 41 images"),
        ({"shifts": 0.5}, "had no --shifts, not --shifts 0.5"),
    ],
)
def test_another_configuration_is_refused_by_its_flag(
    saved: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=rf"--resume.*{message}.*start anew") as caught:
        load(saved, CONFIG | changed)
    assert "None" not in str(caught.value)


def test_a_state_of_another_network_is_refused(saved: Path) -> None:
    other = nn.Linear(3, 3)
    with pytest.raises(FewshotError, match="does not fit this run"):
        training.load_state(saved, other, adam(other), CONFIG)


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.999])
def test_a_truncated_state_is_one_clear_line(saved: Path, keep: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(FewshotError) as caught:
        load(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"config": CONFIG},
        {"config": [], "step": 3, "notes": {}},
        {"config": CONFIG, "step": "3", "notes": {}},
        {"config": CONFIG, "step": 3},
    ],
)
def test_a_state_with_a_damaged_description_is_refused(saved: Path, meta: dict[str, Any]) -> None:
    checkpoint.save(saved, "state", network().state_dict(), meta)
    with pytest.raises(FewshotError, match="description is damaged"):
        load(saved)


def test_a_state_with_odd_tensor_names_is_refused(saved: Path) -> None:
    tensors = {f"weights.{k}": v for k, v in network().state_dict().items()}
    tensors["optimizer.x.y"] = torch.zeros(1)
    meta = {"config": CONFIG, "step": 3, "notes": {}}
    checkpoint.save(saved, "state", tensors, meta)
    with pytest.raises(FewshotError, match="does not fit"):
        load(saved)


def test_a_model_is_no_state(tmp_path: Path) -> None:
    path = tmp_path / "run.state.safetensors"
    checkpoint.save(path, "meta", {"a": torch.zeros(1)}, {})
    with pytest.raises(UsageError, match=r"a meta-trained model.*is needed here"):
        load(path)


def test_state_and_log_lie_beside_the_output() -> None:
    for name in ("model.safetensors", "model"):
        assert training.state_path(Path("a") / name) == Path("a/model.state.safetensors")
        assert training.log_path(Path("a") / name) == Path("a/model.jsonl")
    assert training.log_path(Path("v1.2.safetensors")) == Path("v1.2.jsonl")


def strict(line: str) -> Any:
    """Parse JSON as the standard has it: no NaN, no Infinity."""

    def refuse(token: str) -> None:
        raise ValueError(token)

    return json.loads(line, parse_constant=refuse)


def test_every_line_of_the_log_is_json(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    log.write(loss=math.nan, more={"best": -math.inf, "list": [1.0, math.inf]}, path=tmp_path)
    log.write(name="Äpfel\n🍏")
    log.close()
    first, second = map(strict, (tmp_path / "log.jsonl").read_text("utf-8").splitlines())
    assert first["loss"] is None
    assert first["more"] == {"best": None, "list": [1.0, None]}
    assert first["path"] == str(tmp_path)
    assert second["name"] == "Äpfel\n🍏"
    assert second["seconds"] >= 0


@pytest.mark.parametrize("left", ['{"a": 1}\n', '{"a": 1}\n{"a": ', ""])
def test_a_resumed_log_goes_on_after_its_last_whole_line(tmp_path: Path, left: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(left)
    log = Log(path, append=True)
    log.write(b=2)
    log.close()
    lines = [strict(line) for line in path.read_text().splitlines()]
    assert [sorted(line)[0] for line in lines] == ["a", "b"][-len(lines) :]
    assert len(lines) == left.count("\n") + 1


def test_a_new_run_starts_a_new_log_and_a_resumed_one_needs_none(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    Log(path, append=True).close()
    path.write_text("old\n")
    Log(path).close()
    assert path.read_text() == ""


def test_a_log_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(FewshotError, match="the log cannot be written"):
        Log(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_interrupts(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_signals_are_left_alone_in_other_threads() -> None:
    before, found = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with StopRequest() as stop:
            found.append((bool(stop), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, before)]


def test_averages_are_plain_at_first_and_fade_later() -> None:
    averages = Averages()
    for value in (1.0, 2.0, 6.0):
        averages.add(loss=value)
    assert averages.values["loss"] == pytest.approx(3.0)
    for _ in range(1000):
        averages.add(loss=0.0)
    assert averages.values["loss"] < 1e-3


def test_an_image_size_that_a_network_cannot_take_is_refused_by_its_flag() -> None:
    backbone = Backbone("densenet121", 16)
    with pytest.raises(UsageError, match=r"--image-size 16: densenet121 cannot take it \(.+\)"):
        check_image_size(backbone, 16)
    check_image_size(backbone, 32)


@pytest.mark.parametrize(
    ("weights", "recorded"),
    [("none", "none"), ("default", "default"), ("/home/someone/b.pth", "b.pth")],
)
def test_files_that_are_passed_on_do_not_say_where_others_lay(weights: str, recorded: str) -> None:
    assert without_paths({"weights": weights, "lr": 1})["weights"] == recorded
