"""Keep one backup of an overwritten model beside it, and restore it.

personal.safetensors            the model
.personal.safetensors.before    the model before `--force`, `add`, `remove` or `rename`

The model's description has the hash of the file that it replaced, so that a backup is restored over
that model alone, and not over another one that was given its name.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import (
    DEFAULT_PERSONAL,
    as_path,
    atomic_path,
    check_there,
    failing_as,
    sha256,
)
from fewshot_lite.core.tensor_files import read_meta


@dataclass(frozen=True)
class Undone:
    """A model that was restored."""

    path: Path
    shots: dict[str, int]
    """Photos of each class, now."""
    before: dict[str, int] | None
    """Photos of each class until now, empty if unreadable; None if there was no file."""


def backup_of(path: Path) -> Path:
    """Return the path of the backup of the model at `path`."""
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}.before")


def keep_backup(path: Path) -> str | None:
    """Back up the file at a path, which is about to be overwritten, in place of the last backup.

    Nothing is done if there is no regular file.

    Returns:
        The hash of the backup, for the description of the model that replaces it.

    Raises:
        FewshotError: it cannot be written.
    """
    real = Path(os.path.realpath(path))
    if not real.is_file():
        return None
    backup = backup_of(path)
    reason = "the model before could not be kept"
    with failing_as(backup, reason), atomic_path(backup) as temporary:
        shutil.copyfile(real, temporary)
    return sha256(backup)


def undo(path: str | Path = DEFAULT_PERSONAL) -> Undone:
    """Restore the backup of a personal model, and back up what it replaces: undo twice is redo.

    Raises:
        UsageError: there is nothing to undo.
        FewshotError: the backup is no model, or it cannot be written.
    """
    path = as_path(path, "path")
    backup = backup_of(path)
    if not os.path.lexists(backup):
        check_there(path, remedy="Give the model that `--force` or an edit changed.")
    if path.is_dir() or not backup.is_file():
        raise UsageError(
            f"{path}: nothing to undo. What `--force`, `add`, `remove` and `rename` write over is "
            f"kept once, as {backup.name} beside it."
        )
    if not _belong_together(path, backup):
        raise UsageError(
            f"{path}: nothing to undo. {backup.name} beside it is the backup of another model, "
            "which had this name before. Delete it, or rename it to use that model."
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
        with atomic_path(backup) as later:  # replaces the backup at the end
            shutil.copyfile(real, later)
            with atomic_path(real) as earlier:
                shutil.copyfile(backup, earlier)
    return Undone(path, shots, before)


def _belong_together(path: Path, backup: Path) -> bool:
    """Return whether one of two models replaced the other, or there is one alone to be read."""
    if not path.exists():
        return True
    try:
        replaced, replaced_by_backup = (read_meta(file).get("replaces") for file in (path, backup))
    except FewshotError:  # damaged, so that nothing is known of it
        return True
    return replaced == sha256(backup) or replaced_by_backup == sha256(path)


def _shots(path: Path) -> dict[str, int] | None:
    """Return the photos of each class in a model's file; None if it is no personal model."""
    try:
        meta = read_meta(path)
        if meta.get("kind") != "personal":
            return None
        return dict(zip(meta["class_names"], meta["shots"], strict=True))
    except (FewshotError, KeyError, TypeError, ValueError):
        return None
