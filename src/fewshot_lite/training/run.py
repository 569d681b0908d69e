"""What the two training loops share: state on disk, the log, stopping politely.

A run is a function of its configuration: the randomness of step t comes from (seed, t) alone, so a
run that was killed and resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fewshot_lite.core import jsons as plain_json
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import check_output
from fewshot_lite.core.stopping import StopRequest as StopRequest
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.training.states import check_state as check_state
from fewshot_lite.training.states import clear as clear
from fewshot_lite.training.states import find_state as find_state
from fewshot_lite.training.states import load_state as load_state
from fewshot_lite.training.states import previous as previous
from fewshot_lite.training.states import save_state as save_state
from fewshot_lite.training.states import state_path as state_path


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
    if not output.exists() and log_path(output).exists():
        return state_path(output).exists() or previous(state_path(output)).exists()
    check_state(state_path(output))
    return True


class JsonLines:
    """A log of one JSON object a line, flushed at each; a resumed run appends."""

    def __init__(self, path: Path, *, append: bool) -> None:
        try:
            if append:
                _cut_unfinished_line(path)
            self._file = path.open("a" if append else "w", encoding="utf-8")
        except OSError as error:
            raise FewshotError(f"{path}: the log cannot be written ({error.strerror}).") from None
        self._path = path
        self._start = time.time()

    def write(self, **values: Any) -> None:
        """Append a line; the seconds since the start are added.

        Raises:
            FewshotError: it cannot be written, e.g. as the disk is full.
        """
        seconds = round(time.time() - self._start, 2)
        try:
            self._file.write(plain_json.dumps({"seconds": seconds, **values}) + "\n")
            self._file.flush()
        except OSError as error:
            self.close()
            raise FewshotError(
                f"{self._path}: the log cannot be written ({error.strerror}). The last checkpoint "
                "is whole: make room, then go on with --resume."
            ) from None

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # of a line that could not be written, and was said so
            self._file.close()


class NoLines(JsonLines):
    """The log of a rank that has none."""

    def __init__(self) -> None:
        """Open nothing."""

    def write(self, **values: Any) -> None:
        """Write nothing."""

    def close(self) -> None:
        """Close nothing."""


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


def without_paths(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as a file that is passed on records it: files by name, not where they lay."""
    return config | {"weights": Path(config["weights"]).name}
