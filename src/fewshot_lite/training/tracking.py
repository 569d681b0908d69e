"""The log of a run, and TensorBoard beside it (an extra): both are told the same lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.training.curves import scalars
from fewshot_lite.training.run import JsonLines


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


class TrackedLog:
    """A `JsonLines` whose curves also go to a folder that `tensorboard --logdir` shows."""

    def __init__(self, log: JsonLines, folder: Path | None, *, begun: int = 0) -> None:
        """Open the folder.

        Args:
            log: told everything.
            folder: of TensorBoard; None for none.
            begun: tasks done so far; what a run showed beyond them before it was killed is
                struck out.

        Raises:
            UsageError: the folder cannot be written.
        """
        self._log = log
        self._board: Any = None
        if folder is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        try:
            self._board = SummaryWriter(str(folder), purge_step=begun + 1 if begun else None)
        except OSError as error:
            raise UsageError(
                f"--tensorboard {folder}: cannot be written ({error.strerror or error})."
            ) from None

    def write(self, **values: Any) -> None:
        """As `JsonLines.write`."""
        self._log.write(**values)
        if self._board is not None and isinstance(values.get("task"), int):
            for event, name, value in scalars(values):
                prefix = "train" if event == "step" else event
                self._board.add_scalar(f"{prefix}/{name}", value, values["task"])
            if values.get("event") == "step":
                self._board.flush()

    def close(self) -> None:
        """Close both."""
        self._log.close()
        if self._board is not None:
            self._board.close()
