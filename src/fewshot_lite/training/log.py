"""The log of a run, one JSON object per line, which also feeds TensorBoard."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fewshot_lite.core import jsons as plain_json
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import failing_as
from fewshot_lite.core.ranks import Ranks
from fewshot_lite.data.episode_images import Replaced
from fewshot_lite.training.curves import scalars


@dataclass
class Averages:
    """Exponential averages over about the last 100 values; plain averages over the first ones."""

    values: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, **values: float) -> None:
        """Add one value of each."""
        self.count += 1
        weight = max(0.01, 1 / self.count)
        for name, value in values.items():
            average = self.values.get(name, value)
            self.values[name] = average + weight * (value - average)


class Log:
    """A log of one JSON object per line, flushed after each; a resumed run appends."""

    def __init__(
        self, path: Path | None, *, begun: int = 0, append: bool = False, board: Path | None = None
    ) -> None:
        """Open the files.

        Args:
            path: the log file; None discards all lines, as on all ranks but the first.
            begun: steps or tasks done before; later points of a killed run are purged from
                TensorBoard.
            append: continue an existing log.
            board: TensorBoard's folder; None for none.

        Raises:
            UsageError, FewshotError: a file cannot be written.
        """
        self._path, self._board, self._file = path, None, None
        self._start = time.time()
        if path is None:
            return
        with failing_as(path, "the log cannot be written"):
            if append:  # remove the incomplete last line of a killed run
                with contextlib.suppress(FileNotFoundError), path.open("rb+") as file:
                    file.truncate(file.read().rfind(b"\n") + 1)
            self._file = path.open("a" if append else "w", encoding="utf-8")
        self._board = None if board is None else _open_board(board, begun)

    def begin(
        self,
        *,
        damaged: str,
        unreadable: Iterable[tuple[object, str]],
        notice: Callable[[str], None] | None,
        **values: Any,
    ) -> None:
        """Log the start of a run, a damaged state (to `notice`, too) and unreadable photos."""
        self.write(event="start", torch=torch.__version__, **values)
        if damaged:
            self.write(event="damaged state", reason=damaged)
            if notice is not None:
                notice(damaged)
        for path, reason in unreadable:
            self.write(event="unreadable", path=path, reason=reason)

    def write(self, **values: Any) -> None:
        """Append a line, with the seconds since the start.

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
        with contextlib.suppress(OSError):  # `write` has raised it already
            if self._file is not None:
                self._file.close()
        if self._board is not None:
            self._board.close()


def check_tensorboard(folder: Path) -> None:
    """Check for TensorBoard and its folder before the work begins.

    Raises:
        UsageError: `folder` is a file.
        FewshotError: TensorBoard is not installed.
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
    """Collects, over all ranks, the photos that could not be read during a run."""

    def __init__(self, log: Log, ranks: Ranks, done: Callable[[], int]) -> None:
        """Log each photo once, with the number of tasks that `done` returns."""
        self._log, self._ranks, self._done = log, ranks, done
        self._new: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        """Path -> reason."""

    def note(self, item: Replaced) -> None:
        """Record a photo that this rank could not read."""
        self._new[item.source] = item.reason
        if self._ranks.first:
            self._record(item.source, item.reason)

    def exchange(self) -> None:
        """Record the photos that other ranks could not read."""
        for new in self._ranks.everyone(self._new):
            for path, reason in new.items():
                self._record(path, reason)
        self._new.clear()

    def _record(self, path: str, reason: str) -> None:
        if path not in self.reasons:
            self._log.write(event="replaced", task=self._done(), path=path, reason=reason)
            self.reasons[path] = reason
