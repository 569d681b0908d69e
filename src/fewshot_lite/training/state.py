"""The states that a training run goes on from: the last two, each written whole.

The newest may be lost to a failing disk; the one before it is then gone on from. Weights, optimiser
and whatever else a run carries are in one safetensors file with its checksum; there is no pickle.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fewshot_lite.core import checkpoint
from fewshot_lite.core.config import flag as flag_of
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import check_output, remove_leftovers
from fewshot_lite.core.ranks import Ranks
from fewshot_lite.training.run_files import log_path as log_path
from fewshot_lite.training.run_files import previous as previous
from fewshot_lite.training.run_files import state_path as state_path

#: What to do where no state can be gone on from.
_ANEW = "Begin anew with --force."


@dataclass(frozen=True)
class State:
    """The facts that a run goes on with, besides its weights and optimiser, which are in place."""

    step: int
    notes: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """The facts that `save_state` was given."""


def _new(state: Path) -> Path:
    """Where a state is written before it takes the place of the newest."""
    return state.with_name(state.name.removesuffix(".safetensors") + ".new.safetensors")


def check_new_run(output: Path, *, force: bool) -> None:
    """Refuse to begin a run over the files of another, or over files that only look like them.

    Raises:
        UsageError: the output, its state or its log exists, and `force` is not set; or as
            `check_output`.
    """
    check_output(output, force=force)
    states = [(path, "state") for path in (state_path(output), previous(state_path(output)))]
    for path, what in [*states, (log_path(output), "log")]:
        if path.exists() and not force:
            raise UsageError(
                f"--output {output}: {path}, where this run's {what} would go, exists already. "
                "Use --resume to go on with an interrupted run, --force to begin anew."
            )


def check_resume(output: Path) -> bool:
    """Whether there is a state to go on from; a run killed before its first has begun, no more.

    Raises:
        UsageError: no run that writes `output` was interrupted.
    """
    path = state_path(output)
    if path.exists() or previous(path).exists():
        return True
    if output.exists() or not log_path(output).exists():
        raise UsageError(f"--resume: there is nothing to resume, {path} does not exist.")
    return False


def find_state(path: Path) -> tuple[Path, str]:
    """The state to go on from, and why it is not the newest ("" if it is).

    What a run that was killed while it wrote a state left behind is removed.

    Args:
        path: from `state_path`, where `check_resume` found a state.

    Raises:
        FewshotError: both are damaged, or the newest is and there is no other.
    """
    remove_leftovers(_new(path))
    _new(path).unlink(missing_ok=True)
    older = previous(path)
    if not path.exists():  # killed between the two renamings of `save_state`
        return older, ""
    try:
        _read(path)
        return path, ""
    except FewshotError as error:
        if not older.exists():
            raise
        try:
            _read(older)
        except FewshotError as second:
            raise FewshotError(f"{error.problem} {second}") from None
        return older, f"{error.problem} Going on from the state before it, {older}."


def save_state(
    path: Path,
    module: nn.Module,
    optimizer: Optimizer,
    step: int,
    config: dict[str, Any],
    notes: dict[str, Any],
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Write everything a run needs to go on; the newest state so far becomes the previous one.

    Args:
        path: from `state_path`.
        config: what must be the same when the run goes on.
        notes: anything that JSON can hold.
        tensors: whatever else the run carries.

    Raises:
        FewshotError: it cannot be written; the states so far are whole.
    """
    kept = {f"weights.{name}": tensor for name, tensor in module.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                kept[f"optimizer.{index}.{name}"] = value
    kept |= {f"more.{name}": tensor for name, tensor in (tensors or {}).items()}
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in kept.items()}
    meta = {"step": step, "config": config, "notes": notes}
    new = _new(path)
    try:
        checkpoint.save(new, "state", kept, meta)
        if path.exists():
            path.replace(previous(path))
        new.replace(path)
    except (FewshotError, OSError) as error:
        reason = str(error).replace(str(new), str(path))
        if isinstance(error, OSError):
            reason = f"{path}: could not be written ({error.strerror})."
        if path.exists():
            reason += " The state before it is whole: make room, then use --resume."
        raise FewshotError(reason) from None


def load_state(
    path: Path, module: nn.Module, optimizer: Optimizer, config: dict[str, Any]
) -> State:
    """Restore weights and optimiser from a file that `save_state` wrote.

    Args:
        path: from `find_state`.

    Raises:
        UsageError: the run had another configuration.
        FewshotError: the file is damaged or does not fit.
    """
    state = _read(path)
    then = state.meta["config"]
    for name, value in json.loads(json.dumps(config)).items():
        if then.get(name) != value:
            raise UsageError(
                f"--resume: the run in {path} had {_as_typed(name, then.get(name))}, not "
                f"{_as_typed(name, value)}. Give the same, or start anew."
            )
    slots: dict[int, dict[str, Tensor]] = {}
    try:
        for key, tensor in checkpoint.under("optimizer.", state.tensors).items():
            index, _, name = key.partition(".")
            slots.setdefault(int(index), {})[name] = tensor
        module.load_state_dict(checkpoint.under("weights.", state.tensors))
        optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    except (RuntimeError, ValueError, KeyError):
        raise FewshotError(f"--resume: {path} does not fit this run. {_ANEW}") from None
    return State(state.meta["step"], state.meta["notes"], checkpoint.under("more.", state.tensors))


def resume(
    output: Path, ranks: Ranks, module: nn.Module, optimizer: Optimizer, config: dict[str, Any]
) -> tuple[State | None, str]:
    """Load the newest whole state on all ranks, of which the first alone has the files.

    Returns:
        The state, None if the run was killed before it had one; and why it is not the newest.

    Raises:
        UsageError, FewshotError: as `check_resume`, `find_state` and `load_state`; on all ranks.
    """

    def find() -> tuple[Path, str] | None:
        if not ranks.first:
            return None
        remove_leftovers(output)
        return find_state(state_path(output)) if check_resume(output) else None

    found = ranks.together(find)
    content = b""
    if ranks.size > 1:
        content = ranks.from_first(found[0].read_bytes() if found else b"")
    if not found and not content:
        return None, ""

    def load() -> State:
        if found:
            return load_state(found[0], module, optimizer, config)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / state_path(output).name
            copy.write_bytes(content)
            return load_state(copy, module, optimizer, config)

    return ranks.together(load), found[1] if found else ""


def clear(output: Path) -> None:
    """Remove the states of a run that has ended."""
    for path in (previous(state_path(output)), state_path(output)):
        path.unlink(missing_ok=True)


def _read(path: Path) -> checkpoint.Checkpoint:
    """A state file with a description that holds what it must."""
    try:
        state = checkpoint.load(path, "state", flag="--resume")
    except FewshotError as error:
        if error.problem == str(error):
            raise
        raise FewshotError(error.problem, _ANEW) from None  # there is no other copy of it
    kinds = {"config": dict, "step": int, "notes": dict}
    if not all(isinstance(state.meta.get(key), kind) for key, kind in kinds.items()):
        raise FewshotError(f"--resume: {path}: its description is damaged.", _ANEW)
    return state


def _as_typed(name: str, value: Any) -> str:
    """A setting as its flag, and what the data count as such."""
    if name in ("images", "classes"):
        return f"{value} {name}"
    flag = flag_of(name)
    if value is None and name == "h":
        return f"{flag} all"
    if isinstance(value, dict):
        value = [f"{key}={item}" for key, item in value.items()]
    if value is None or value is False or value == []:
        return f"no {flag}"
    if value is True:
        return flag
    return " ".join(f"{flag} {item}" for item in (value if isinstance(value, list) else [value]))
