"""The model that another was written over is kept beside it, once, and can be had back.

personal.safetensors            as it is
.personal.safetensors.before    as it was before `--force`, `add`, `remove` or `rename`
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import DEFAULT_PERSONAL, atomic_path, failing_as
from fewshot_lite.core.tensor_files import read_meta


@dataclass(frozen=True)
class Undone:
    """A model that is as it was before."""

    path: Path
    shots: dict[str, int]
    """Photos of each class, now."""
    before: dict[str, int] | None
    """As they were until now, nothing if they cannot be told; None if there was no file."""


def backup_of(path: Path) -> Path:
    """Where the model before the one at `path` lies."""
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}.before")


def keep_backup(path: Path) -> None:
    """Keep the file at a path, which is about to be written over, in place of the one kept before.

    What is no file is not kept: there is none, or it is a device.

    Raises:
        FewshotError: it cannot be written.
    """
    real = Path(os.path.realpath(path))
    if real.is_file():
        _put(real, backup_of(path))


def undo(path: str | Path = DEFAULT_PERSONAL) -> Undone:
    """Put a personal model back as it was before it was written over; another time, forth again.

    Raises:
        UsageError: there is nothing to undo.
        FewshotError: what was kept is no model, or it cannot be written.
    """
    path = Path(path)
    backup = backup_of(path)
    if not (os.path.lexists(path) or os.path.lexists(backup)):
        raise UsageError(f"{path}: no such file. Give the model that `--force` or an edit changed.")
    if path.is_dir() or not backup.is_file():
        raise UsageError(
            f"{path}: nothing to undo. What `--force`, `add`, `remove` and `rename` write over is "
            f"kept once, as {backup.name} beside it."
        )
    shots = _shots(backup)
    if shots is None:
        raise FewshotError(f"{backup}: no personal model, so {path} was left as it is. Adapt anew.")
    real = Path(os.path.realpath(path))
    before = (_shots(real) or {}) if real.exists() else None
    with failing_as(path):
        if before is None:
            backup.replace(real)
            return Undone(path, shots, None)
        with atomic_path(backup) as later:  # takes the backup's place at the end
            shutil.copyfile(real, later)
            with atomic_path(real) as earlier:
                shutil.copyfile(backup, earlier)
    return Undone(path, shots, before)


def _put(source: Path, target: Path) -> None:
    reason = "the model before could not be kept"
    with failing_as(target, reason), atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _shots(path: Path) -> dict[str, int] | None:
    """Photos of each class of a model's file; None if it is none."""
    try:
        meta = read_meta(path)
        if meta.get("kind") != "personal":
            return None
        return dict(zip(meta["class_names"], meta["shots"], strict=True))
    except (FewshotError, KeyError, TypeError, ValueError):
        return None
