"""Save and restore the state of a training run; the last two states are kept.

If a failing disk damages the newest, the run is resumed from the one before. A state, with weights,
optimiser and anything else a run needs, is a safetensors file with a checksum, written atomically.
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
from fewshot_lite.images.kinds import check_model_name
from fewshot_lite.training.run_files import log_path as log_path
from fewshot_lite.training.run_files import previous as previous
from fewshot_lite.training.run_files import state_path as state_path

#: Remedy if no state can be resumed from.
_ANEW = "Begin anew with --force."


@dataclass(frozen=True)
class State:
    """The part of a loaded state that is not weights or optimiser; arguments of `save_state`."""

    step: int
    notes: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)


def _new(state: Path) -> Path:
    """Return the path that a state is written to before it replaces the newest."""
    return state.with_name(state.name.removesuffix(".safetensors") + ".new.safetensors")


def check_new_run(output: Path, *, force: bool) -> None:
    """Check that a new run would not overwrite the files of another.

    Raises:
        UsageError: the output, its state or its log exists, and `force` is not set; or as
            `check_output`.
    """
    check_model_name(output)
    check_output(output, force=force)
    states = [(path, "state") for path in (state_path(output), previous(state_path(output)))]
    for path, what in [*states, (log_path(output), "log")]:
        if path.exists() and not force:
            raise UsageError(
                f"--output {output}: {path}, where this run's {what} would go, exists already. "
                "Use --resume to go on with an interrupted run, --force to begin anew."
            )


def check_resume(output: Path) -> bool:
    """Return whether there is a state to resume from; False for a run killed before its first.

    Raises:
        UsageError: there is no interrupted run that writes `output`.
    """
    path = state_path(output)
    if path.exists() or previous(path).exists():
        return True
    if output.exists() or not log_path(output).exists():
        raise UsageError(f"--resume: there is nothing to resume, {path} does not exist.")
    return False


def find_state(path: Path) -> tuple[Path, str]:
    """Return the state to resume from, and why it is not the newest ("" if it is).

    An incomplete state that a killed run left is removed.

    Args:
        path: from `state_path`, where `check_resume` found a state.

    Raises:
        FewshotError: both are damaged, or the newest is and there is no other.
    """
    remove_leftovers(_new(path))
    _new(path).unlink(missing_ok=True)
    older = previous(path)
    if not path.exists():  # killed between the two renames of `save_state`
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
    """Write all that is needed to resume a run; the newest state so far becomes the previous one.

    Args:
        path: from `state_path`.
        config: settings that must be the same when the run is resumed.
        notes: further JSON-able values.
        tensors: further tensors.

    Raises:
        FewshotError: it cannot be written; earlier states stay whole.
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
    stored = state.meta["config"]
    for name, value in json.loads(json.dumps(config)).items():
        if stored.get(name) != value:
            raise UsageError(
                f"--resume: the run in {path} had {_as_typed(name, stored.get(name))}, not "
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
    """Load the newest undamaged state on all ranks; only the first one needs the files.

    Returns:
        The state, None if the run was killed before its first; and why it is not the newest.

    Raises:
        UsageError, FewshotError: as `check_resume`, `find_state` and `load_state`; on all ranks.
    """

    def find() -> tuple[Path, str] | None:
        if not ranks.first:
            return None
        remove_leftovers(output)
        return find_state(state_path(output)) if check_resume(output) else None

    newest = ranks.together(find)
    content = b""
    if ranks.size > 1:
        content = ranks.from_first(newest[0].read_bytes() if newest else b"")
    if not newest and not content:
        return None, ""

    def load() -> State:
        if newest:
            return load_state(newest[0], module, optimizer, config)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / state_path(output).name
            copy.write_bytes(content)
            return load_state(copy, module, optimizer, config)

    return ranks.together(load), newest[1] if newest else ""


def clear(output: Path) -> None:
    """Remove the states of a finished run."""
    for path in (previous(state_path(output)), state_path(output)):
        path.unlink(missing_ok=True)


def _read(path: Path) -> checkpoint.Checkpoint:
    """Read a state file and check its description."""
    try:
        state = checkpoint.load(path, "state", flag="--resume")
    except FewshotError as error:
        if error.problem == str(error):
            raise
        raise FewshotError(error.problem, _ANEW) from None  # "take another copy" would not help
    kinds = {"config": dict, "step": int, "notes": dict}
    if not all(isinstance(state.meta.get(key), kind) for key, kind in kinds.items()):
        raise FewshotError(f"--resume: {path}: its description is damaged.", _ANEW)
    return state


def _as_typed(name: str, value: Any) -> str:
    """Return a setting as its flag, or a count of the data in words."""
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
