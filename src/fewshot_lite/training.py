"""What the two training loops share: state on disk, the log, stopping politely.

A run is a function of its configuration: the randomness of step t comes from (seed, t) alone, so a
run that was killed and resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fewshot_lite import checkpoint, plain_json
from fewshot_lite.backbones import Backbone
from fewshot_lite.errors import FewshotError, UsageError
from fewshot_lite.files import check_output
from fewshot_lite.stopping import StopRequest as StopRequest


@dataclass(frozen=True)
class Progress:
    """Where a run stands: one line of the log, one refresh of the bar."""

    step: int
    """Steps (pretrain) or tasks (meta-train) done."""
    total: int
    phase: str
    values: dict[str, float] = field(default_factory=dict)


Report = Callable[[Progress], None]


def generator(*numbers: int) -> torch.Generator:
    """A CPU generator seeded by several numbers, e.g. (seed, stream, step).

    Torch seeds a generator well from one 64-bit number only; a hash mixes several into one.
    """
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def state_path(output: Path) -> Path:
    """Where a run that writes `output` keeps what it needs to resume."""
    return output.with_name(output.name.removesuffix(".safetensors") + ".state.safetensors")


def log_path(output: Path) -> Path:
    """Where a run that writes `output` keeps its log, one JSON object a line."""
    return output.with_name(output.name.removesuffix(".safetensors") + ".jsonl")


def check_image_size(backbone: Backbone, size: int) -> None:
    """Refuse a size that the network cannot take, by one image of it, before photos are read."""
    try:
        with torch.no_grad():
            backbone.eval()(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(
            f"--image-size {size}: {backbone.name} cannot take it ({reason})."
        ) from None


def check_new_run(output: Path, *, force: bool) -> None:
    """Refuse to begin a run over the files of another, or over files that only look like them.

    Raises:
        UsageError: the output, its state or its log exists, and `force` is not set; or as
            `check_output`.
    """
    check_output(output, force=force)
    for path, what in ((state_path(output), "state"), (log_path(output), "log")):
        if path.exists() and not force:
            raise UsageError(
                f"--output {output}: {path}, where this run's {what} would go, exists already. "
                "Use --resume to go on with an interrupted run, --force to begin anew."
            )


def check_state(path: Path) -> None:
    """Refuse to resume before the work is done that it is for, if there is nothing to resume."""
    if not path.exists():
        raise UsageError(f"--resume: there is nothing to resume, {path} does not exist.")


def save_state(
    path: Path,
    modules: nn.Module,
    optimizer: Optimizer,
    step: int,
    config: dict[str, Any],
    notes: dict[str, Any],
) -> None:
    """Write everything a run needs to go on: weights, optimiser, step, configuration, notes."""
    tensors = {f"weights.{name}": tensor for name, tensor in modules.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
    checkpoint.save(path, "state", tensors, {"step": step, "config": config, "notes": notes})


def load_state(
    path: Path, modules: nn.Module, optimizer: Optimizer, config: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """Restore what `save_state` wrote and return the step and the notes.

    Raises:
        UsageError: there is no state, or the run had another configuration.
        FewshotError: the file is damaged or does not fit.
    """
    check_state(path)
    state = checkpoint.load(path, "state", flag="--resume")
    then, step, notes = (state.meta.get(key) for key in ("config", "step", "notes"))
    if not (isinstance(then, dict) and isinstance(step, int) and isinstance(notes, dict)):
        raise FewshotError(f"--resume: {path}: its description is damaged.")
    for name, value in json.loads(json.dumps(config)).items():
        if then.get(name) != value:
            raise UsageError(
                f"--resume: the run in {path} had {_as_typed(name, then.get(name))}, not "
                f"{_as_typed(name, value)}. Give the same, or start anew."
            )
    weights = _under("weights.", state.tensors)
    slots: dict[int, dict[str, Tensor]] = {}
    try:
        for key, tensor in _under("optimizer.", state.tensors).items():
            index, _, name = key.partition(".")
            slots.setdefault(int(index), {})[name] = tensor
        modules.load_state_dict(weights)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    except (RuntimeError, ValueError, KeyError):
        raise FewshotError(f"--resume: {path} does not fit this run. Start anew.") from None
    return step, notes


def _as_typed(name: str, value: Any) -> str:
    """A setting as its flag, and what the data count as such."""
    if name in ("images", "classes"):
        return f"{value} {name}"
    flag = f"--{name.replace('_', '-')}"
    if value is None and name == "h":
        return f"{flag} all"
    if value is None or value is False or value == []:
        return f"no {flag}"
    if value is True:
        return flag
    return " ".join(f"{flag} {item}" for item in (value if isinstance(value, list) else [value]))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


class JsonLines:
    """A log of one JSON object a line, flushed at each; a resumed run appends."""

    def __init__(self, path: Path, *, append: bool) -> None:
        try:
            if append:
                _cut_unfinished_line(path)
            self._file = path.open("a" if append else "w", encoding="utf-8")
        except OSError as error:
            raise FewshotError(f"{path}: the log cannot be written ({error.strerror}).") from None
        self._start = time.time()

    def write(self, **values: Any) -> None:
        """Append a line; the seconds since the start are added."""
        seconds = round(time.time() - self._start, 2)
        self._file.write(plain_json.dumps({"seconds": seconds, **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _cut_unfinished_line(path: Path) -> None:
    """Drop what a run that was killed while writing left after the last line break."""
    with contextlib.suppress(FileNotFoundError), path.open("rb+") as file:
        file.truncate(file.read().rfind(b"\n") + 1)


@dataclass
class Averages:
    """Exponential averages over about the last 100 additions, plain ones over the first."""

    values: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, **values: float) -> None:
        """Take in one value of each."""
        self.count += 1
        weight = max(0.01, 1 / self.count)
        for name, value in values.items():
            before = self.values.get(name, value)
            self.values[name] = before + weight * (value - before)


def split_decay(modules: Sequence[nn.Module], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: weight decay on matrices and kernels, none on norms and biases."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
