"""Paths: outputs checked before the work and written whole, and where the shipped models lie."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from fewshot_lite.core.errors import FewshotError, UsageError

#: The model that ships, by the name that `--base` takes.
DEFAULT_BASE = "default"

#: What `adapt` writes and `classify` reads unless told otherwise.
DEFAULT_PERSONAL = Path("personal.safetensors")


def check_output(path: Path, *, force: bool, flag: str = "--output") -> None:
    """Refuse an output before the work is done that it is for.

    Args:
        path: the file to write.
        force: it may be there.
        flag: what to call it in messages.

    Raises:
        UsageError: it exists and `force` is not set, is a folder or a device, or its folder cannot
            be written.
    """
    if path.is_dir():
        raise UsageError(f"{flag} {path}: a folder. Give the name of a file in it.")
    if path.exists() and not path.is_file():
        raise UsageError(f"{flag} {path}: a device or a pipe. Give the name of a file.")
    if path.exists() and not force:
        raise UsageError(f"{flag} {path}: exists already. Use --force to overwrite it.")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{flag} {path}: there is no folder {folder}. Create it first.")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{flag} {path}: the folder {folder} cannot be written to.")


@contextlib.contextmanager
def atomic_path(path: Path, *, prefix: str = "") -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it at the end: `path` is whole or untouched.

    Args:
        prefix: how the temporary name begins, by which what a killed program leaves is known; as
            `remove_leftovers` looks for unless given.
    """
    import tempfile  # not needed for help texts, and not cheap

    handle, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=prefix or _temporary(path))
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> str:
    """What the names of temporary files for `path` begin with."""
    return f".fewshot-lite-{path.name[:100]}-"  # names are 255 characters at most


def remove_leftovers(path: Path) -> None:
    """Remove temporary files that a process left beside `path` when it was killed.

    No other process may be writing `path`.
    """
    for entry in path.absolute().parent.iterdir():
        if entry.name.startswith(_temporary(path)) and entry.is_file():
            entry.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hash of a file's bytes, in hex.

    Raises:
        FewshotError: it cannot be read.
    """
    import hashlib  # not needed for help texts

    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FewshotError(f"{path}: cannot be read ({error.strerror or error}).") from None


def models_folder() -> Path:
    """Where the checkpoints lie that ship: inside the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "models"
    return packaged if packaged.is_dir() else package.parents[1] / "models"


def find_base(base: str | Path) -> Path:
    """The file of a base: a path, or a shipped model's name.

    Raises:
        UsageError: neither.
    """
    path = Path(base)
    shipped = sorted(models_folder().glob("*.safetensors"))
    if str(base) == DEFAULT_BASE and shipped:
        return shipped[0]
    for candidate in shipped:
        if candidate.stem == str(base):
            return candidate
    if path.exists() or path.suffix:
        return path
    names = ", ".join([DEFAULT_BASE, *(c.stem for c in shipped)]) if shipped else "none"
    raise UsageError(f"--base {base}: no such file, and no model of this name. Shipped: {names}.")
