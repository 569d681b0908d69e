"""The last two states of a run: written whole, gone back to, and a full disk takes nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import Adam, Optimizer

from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.training import state as states
from fewshot_lite.training.log import Log


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, nn.Module, Optimizer]:
    module = nn.Linear(3, 2)
    return states.state_path(tmp_path / "m.safetensors"), module, Adam(module.parameters())


def save(run: tuple[Path, nn.Module, Optimizer], *steps: int) -> Path:
    path, module, optimizer = run
    for step in steps:
        more = {"best.a": torch.full((2,), float(step))}
        states.save_state(path, module, optimizer, step, {"lr": 1}, {"n": step}, more)
    return path


def load(run: tuple[Path, nn.Module, Optimizer], path: Path) -> states.State:
    return states.load_state(path, run[1], run[2], {"lr": 1})


def test_the_last_two_are_kept(run: Any, tmp_path: Path) -> None:
    path = save(run, 1, 2, 3)
    assert {file.name for file in tmp_path.iterdir()} == {
        "m.state.safetensors",
        "m.state.previous.safetensors",
    }
    state = load(run, path)
    assert (state.step, state.notes, state.tensors["best.a"].tolist()) == (3, {"n": 3}, [3, 3])
    assert load(run, states.previous(path)).step == 2
    states.clear(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_newest_state_is_passed_over_with_a_notice(run: Any, damage: str) -> None:
    path = save(run, 1, 2)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[:-5], "flip": content, "empty": b"", "text": b"text" * 9}[damage]
    )
    found, notice = states.find_state(path)
    assert found == states.previous(path)
    assert str(path) in notice
    assert "Going on from the state before it" in notice
    assert load(run, found).step == 1


def test_a_run_killed_between_the_two_renamings_goes_on(run: Any) -> None:
    path = save(run, 1, 2)
    path.replace(states.previous(path))
    assert states.find_state(path) == (states.previous(path), "")


def test_what_a_killed_process_left_is_removed(run: Any, tmp_path: Path) -> None:
    path = save(run, 1)
    (tmp_path / ".fewshot-lite-m.state.new.safetensors-abcd1234").write_text("half")
    (tmp_path / "m.state.new.safetensors").write_text("whole")
    (tmp_path / ".fewshot-lite-other").write_text("of another run")
    states.find_state(path)
    assert {file.name for file in tmp_path.iterdir()} == {path.name, ".fewshot-lite-other"}


def test_two_damaged_states_are_one_clear_line(run: Any) -> None:
    path = save(run, 1, 2)
    for file in (path, states.previous(path)):
        file.write_bytes(b"")
    with pytest.raises(FewshotError, match=r"m\.state\.previous\.safetensors") as caught:
        states.find_state(path)
    assert str(caught.value).count("Begin anew") == 1


def foreign(file: Path) -> None:
    save_file({"a": torch.ones(2)}, file)


def without_description(file: Path) -> None:
    save_file({"a": torch.ones(2)}, file, metadata={"fewshot_lite": "{"})


@pytest.mark.parametrize("damage", [Path.touch, foreign, without_description])
def test_of_a_state_that_is_none_there_is_no_other_copy(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """One remedy: the state before it where there is one, else to begin anew."""
    path = states.state_path(tmp_path / "m.safetensors")
    damage(path)
    with pytest.raises(FewshotError) as caught:
        states.find_state(path)
    message = str(caught.value)
    assert message.endswith(". Begin anew with --force.")
    assert message.count(". ") == 1
    meta = {"step": 1, "config": {}, "notes": {}}
    checkpoint.save(states.previous(path), "state", {"a": torch.ones(2)}, meta)
    notice = states.find_state(path)[1]
    what = message.removesuffix("Begin anew with --force.")
    assert notice == f"{what}Going on from the state before it, {states.previous(path)}."


def test_nothing_to_resume(run: Any) -> None:
    with pytest.raises(UsageError, match="nothing to resume"):
        states.check_resume(run[0])


def test_a_full_disk_leaves_the_states_so_far(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(run, 1, 2)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(
        FewshotError, match=r"No space left on device.*before it is whole"
    ) as caught:
        save(run, 3)
    assert str(path) in str(caught.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_full_disk_ends_a_log_in_one_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    log = Log(Path("/dev/full"))
    with pytest.raises(FewshotError, match=r"/dev/full: the log cannot be written \(No space"):
        log.write(event="start")
    log.close()


def test_a_run_without_a_state_begins_anew_only_if_it_had_begun(tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    with pytest.raises(UsageError, match="nothing to resume"):
        states.check_resume(output)
    (tmp_path / "m.jsonl").touch()
    assert not states.check_resume(output)
    output.touch()  # it has ended
    with pytest.raises(UsageError, match="nothing to resume"):
        states.check_resume(output)
