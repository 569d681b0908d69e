"""The log of a run: one JSON object a line, and TensorBoard's curves from the same lines."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewshot_lite.core import jsons as plain_json
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import failing_as
from fewshot_lite.core.ranks import Ranks
from fewshot_lite.data.episode_images import Replaced
from fewshot_lite.training.curves import scalars


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


class Log:
    """A log of one JSON object a line, flushed at each; a resumed run appends."""

    def __init__(
        self, path: Path | None, *, begun: int = 0, append: bool = False, board: Path | None = None
    ) -> None:
        """Open the files.

        Args:
            path: of the log; None takes in nothing, as on all ranks but the first.
            begun: steps or tasks done so far; what TensorBoard shows beyond them, of a run that was
                killed, is struck out.
            append: go on with the log that is there.
            board: folder of TensorBoard; None for none.

        Raises:
            UsageError, FewshotError: a file cannot be written.
        """
        self._path, self._board, self._file = path, None, None
        self._start = time.time()
        if path is None:
            return
        with failing_as(path, "the log cannot be written"):
            if append:  # what a run that was killed while writing left is no line
                with contextlib.suppress(FileNotFoundError), path.open("rb+") as file:
                    file.truncate(file.read().rfind(b"\n") + 1)
            self._file = path.open("a" if append else "w", encoding="utf-8")
        self._board = None if board is None else _open_board(board, begun)

    def write(self, **values: Any) -> None:
        """Append a line; the seconds since the start are added.

        Raises:
            FewshotError: it cannot be written, e.g. as the disk is full.
        """
        if self._file is None:
            return
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
        if self._board is not None:
            for event, name, value in scalars(values):
                self._board.add_scalar(f"{event}/{name}", value, values["task"])
            self._board.flush()

    def close(self) -> None:
        """Close the files."""
        with contextlib.suppress(OSError):  # of a line that could not be written, and was said so
            if self._file is not None:
                self._file.close()
        if self._board is not None:
            self._board.close()


def check_tensorboard(folder: Path) -> None:
    """Refuse a folder, or that TensorBoard is not there, before the work is done.

    Raises:
        UsageError: a file of that name.
        FewshotError: not installed.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--tensorboard {folder}: a file, not a folder.")
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise FewshotError(
            "--tensorboard: needs an extra: pip install 'fewshot-lite[tensorboard]'"
        ) from None


def _open_board(folder: Path, begun: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    with failing_as(f"--tensorboard {folder}", "cannot be written", UsageError):
        return SummaryWriter(str(folder), purge_step=begun + 1 if begun else None)


class Replacements:
    """Photos that could no longer be read when they were to be used, by whichever rank."""

    def __init__(self, log: Log, ranks: Ranks, done: Callable[[], int]) -> None:
        """Begin with none.

        Args:
            log: in which each is named once.
            done: how many tasks are.
        """
        self._log, self._ranks, self._done = log, ranks, done
        self._new: dict[str, str] = {}
        self.found: dict[str, str] = {}
        """Reasons by path."""

    def note(self, item: Replaced) -> None:
        """Take in one that this rank met with."""
        self._new[item.source] = item.reason
        if self._ranks.first:
            self._name(item.source, item.reason)

    def exchange(self) -> None:
        """Take in what the other ranks met with."""
        for text in self._ranks.everyone(json.dumps(self._new)):
            for path, reason in json.loads(text).items():
                self._name(path, reason)
        self._new.clear()

    def _name(self, path: str, reason: str) -> None:
        if path not in self.found:
            self._log.write(event="replaced", task=self._done(), path=path, reason=reason)
            self.found[path] = reason
