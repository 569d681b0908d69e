"""What the two training loops share: state on disk, the log, stopping politely.

A run is a function of its configuration: the randomness of step t comes from (seed, t) alone, so a
run that was killed and resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fewshot_lite import checkpoint
from fewshot_lite.errors import FewshotError, UsageError


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
    import hashlib

    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def state_path(output: Path) -> Path:
    """Where a run that writes `output` keeps what it needs to resume."""
    return output.with_name(output.name.removesuffix(".safetensors") + ".state.safetensors")


def log_path(output: Path) -> Path:
    """Where a run that writes `output` keeps its log, one JSON object a line."""
    return output.with_name(output.name.removesuffix(".safetensors") + ".jsonl")


def save_state(
    path: Path, modules: nn.Module, optimizer: Optimizer, step: int, config: dict[str, Any]
) -> None:
    """Write everything a run needs to go on: weights, optimiser, step, configuration."""
    tensors = {f"weights.{name}": tensor for name, tensor in modules.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
    checkpoint.save(path, "state", tensors, {"step": step, "config": config})


def load_state(path: Path, modules: nn.Module, optimizer: Optimizer, config: dict[str, Any]) -> int:
    """Restore what `save_state` wrote and return the step.

    Raises:
        UsageError: there is no state, or the run had another configuration.
        FewshotError: the file is damaged or does not fit.
    """
    if not path.exists():
        raise UsageError(f"--resume: there is nothing to resume, {path} does not exist.")
    state = checkpoint.load(path, "state", flag="--resume")
    changed = [
        k for k in config if state.meta["config"].get(k) != json.loads(json.dumps(config[k]))
    ]
    if changed:
        name = changed[0]
        raise UsageError(
            f"--resume: the run in {path} had --{name.replace('_', '-')} "
            f"{state.meta['config'].get(name)}, not {config[name]}. Give the same, or start anew."
        )
    weights = _under("weights.", state.tensors)
    slots: dict[int, dict[str, Tensor]] = {}
    for key, tensor in _under("optimizer.", state.tensors).items():
        index, _, name = key.partition(".")
        slots.setdefault(int(index), {})[name] = tensor
    try:
        modules.load_state_dict(weights)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    except (RuntimeError, ValueError, KeyError) as error:
        raise FewshotError(f"{path}: does not fit this run ({error}).") from None
    return int(state.meta["step"])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


class JsonLines:
    """A log of one JSON object a line, flushed at each; a resumed run appends."""

    def __init__(self, path: Path, *, append: bool) -> None:
        try:
            self._file = path.open("a" if append else "w", encoding="utf-8")
        except OSError as error:
            raise FewshotError(f"{path}: the log cannot be written ({error.strerror}).") from None
        self._start = time.time()

    def write(self, **values: Any) -> None:
        """Append a line; the seconds since the start are added."""
        self._file.write(json.dumps({"seconds": round(time.time() - self._start, 2), **values}))
        self._file.write("\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class StopRequest:
    """Ctrl-C and SIGTERM ask for a stop at the next step; a second Ctrl-C stops at once.

    `with StopRequest() as stop: ... if stop: save and leave`.
    """

    def __init__(self) -> None:
        self._asked = False
        self._previous: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return self._asked

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread: the caller's signals are not ours to take
                return self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True


class Averages:
    """Exponential averages over about the last 100 additions, plain ones over the first."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self._count = 0

    def add(self, **values: float) -> None:
        """Take in one value of each."""
        self._count += 1
        weight = max(0.01, 1 / self._count)
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
