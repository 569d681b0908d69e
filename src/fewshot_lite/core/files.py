"""Paths: outputs checked before the work and written whole, and where the shipped models lie."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from fewshot_lite.core.errors import FewshotError, UsageError

#: The model that is taken unless told otherwise, by the name that `--base` takes, and its own.
DEFAULT_BASE, DEFAULT_MODEL = "default", "simple-cnaps-lite0"

#: The file that `adapt` writes and `classify` reads unless told otherwise.
DEFAULT_PERSONAL = Path("personal.safetensors")

#: What the disk may not do.
WRITING, READING = "could not be written", "cannot be read"

#: What to do where a file is not there, and where a folder is given for it.
_LOOK_FOR_IT, _NO_FOLDER = "Check its name and its folder.", "Give the file itself."

#: Endings of what `export` writes, and what to do where it is given for the model itself.
EXPORTED = (".onnx", ".pt2")
AN_EXPORT = "an export of a model. Give the .safetensors file that it was exported from."


def check_output(path: Path, *, force: bool, flag: str = "--output", stream: bool = False) -> None:
    """Refuse an output before the work is done that it is for.

    Args:
        path: the file to write.
        force: it may be there.
        flag: what to call it in messages.
        stream: it may be a device or a pipe, which is written to and never replaced.

    Raises:
        UsageError: it exists and `force` is not set, is a folder or, unless `stream` is set, a
            device, or its folder cannot be written.
    """
    if os.path.isdir(path):  # noqa: PTH112  # Path.is_dir raises for names that are too long
        raise UsageError(f"{flag} {path}: a folder. Give the name of a file in it.")
    if _is_stream(path):
        if stream:
            return
        raise UsageError(f"{flag} {path}: a device or a pipe. Give the name of a file.")
    if os.path.lexists(path) and path.exists() and not force:
        raise UsageError(f"{flag} {path}: exists already. Use --force to overwrite it.")
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise UsageError(f"{flag} {path}: there is no folder {folder}. Create it first.")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{flag} {path}: the folder {folder} cannot be written to.")


def _is_stream(path: Path) -> bool:
    """Whether a path is a device or a pipe, or another name for a file that is open already."""
    if str(path.absolute().parent) in ("/dev", "/dev/fd", "/proc/self/fd"):
        return True
    with contextlib.suppress(OSError):
        return not stat.S_ISREG(path.stat().st_mode)
    return False


@contextlib.contextmanager
def failing_as(
    name: object, failure: str = WRITING, kind: type[FewshotError] = FewshotError
) -> Iterator[None]:
    """While entered, what the disk does not do is one line that names the file, with the reason.

    Of a file that cannot be read (`READING`) it says what to look at, too.

    Raises:
        FewshotError: of `kind`, for any OSError but BrokenPipeError, which is a reader that has
            left.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        remedy = f" {_remedy(error)}" if failure == READING else ""
        raise kind(f"{name}: {failure} ({reason}).{remedy}") from None


def _remedy(error: OSError) -> str:
    """What to do about a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return _LOOK_FOR_IT
    if isinstance(error, IsADirectoryError):
        return _NO_FOLDER
    return "Check its permissions and its disk."


@contextlib.contextmanager
def atomic_path(path: Path, *, prefix: str = "", force: bool = True) -> Iterator[Path]:
    """A temporary path that takes the place of `path` at the end: that is whole or untouched.

    A file that was there hands on its mode and, where that is permitted, its owner; of a symbolic
    link the target is rewritten. A device or a pipe is written to at the end. What an earlier
    process left when it was killed is removed.

    Args:
        path: where to.
        prefix: how the temporary name begins, by which what a killed program leaves is known; as
            `remove_leftovers` looks for unless given.
        force: `path` may be there at the end.

    Raises:
        FewshotError: something appeared at `path` meanwhile, and `force` is not set.
    """
    import tempfile  # not needed for help texts, and not cheap

    if _is_stream(path):
        with tempfile.NamedTemporaryFile(prefix="fewshot-lite-") as file:
            yield Path(file.name)
            with path.open("ab") as stream:
                shutil.copyfileobj(file, stream)
        return
    path = Path(os.path.realpath(path))
    remove_leftovers(path)
    with locked_temporary(path.parent, prefix or _temporary(path)) as temporary:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        _hand_on_access(path, temporary)
        try:
            temporary.replace(path) if force else rename_new(temporary, path)
        except FileExistsError:
            raise FewshotError(
                f"{path}: appeared meanwhile and was not overwritten. Use --force for that."
            ) from None


@contextlib.contextmanager
def locked_temporary(folder: Path, prefix: str) -> Iterator[Path]:
    """A new file in a folder, removed at the end unless it was renamed.

    It is locked, so that `remove_leftovers` of other processes can tell that it is in use.
    """
    import tempfile

    handle, name = tempfile.mkstemp(dir=folder, prefix=prefix)
    temporary = Path(name)
    try:
        with contextlib.suppress(ImportError, OSError):  # Windows; disks without locks
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.name == "nt":  # where no open file can be renamed
            os.close(handle)
        yield temporary
    finally:
        if os.name != "nt":
            os.close(handle)
        temporary.unlink(missing_ok=True)


def rename_new(temporary: Path, path: Path) -> None:
    """Give a file another name in its folder, which must be free.

    Raises:
        FileExistsError: it is not.
    """
    try:
        os.link(temporary, path)  # unlike a rename it never overwrites
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "exists", str(path)) from None
        temporary.rename(path)


def _hand_on_access(path: Path, temporary: Path) -> None:
    """Let a file be as readable as the one it replaces; a new one as the umask says."""
    try:
        before = path.stat()
    except OSError:
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private
        return
    for owner in ((before.st_uid, before.st_gid), (-1, before.st_gid)):
        with contextlib.suppress(OSError, AttributeError):  # not ours to give; Windows
            os.chown(temporary, *owner)
            break
    temporary.chmod(stat.S_IMODE(before.st_mode))


def _temporary(path: Path) -> str:
    """The prefix of the names of temporary files for `path`."""
    return f".fewshot-lite-{path.name[:100]}-"  # names are 255 characters at most


def remove_leftovers(path: Path, prefix: str = "") -> None:
    """Remove temporary files that processes left beside `path` when they were killed.

    Those that another process is writing are left.

    Args:
        path: a file.
        prefix: how their names begin; as `atomic_path` has them unless given.
    """
    name = re.compile(re.escape(prefix or _temporary(path)) + "[a-z0-9_]{8}")  # as tempfile has it
    with contextlib.suppress(OSError):  # a folder that may not be listed
        for entry in path.absolute().parent.iterdir():
            if name.fullmatch(entry.name) and entry.is_file() and _is_abandoned(entry):
                entry.unlink(missing_ok=True)


def _is_abandoned(temporary: Path) -> bool:
    """Whether no process has a lock on a file. Windows keeps what is open, without one."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        with temporary.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def check_file(path: Path, where: str) -> None:
    """Refuse what is no file to be read.

    Args:
        where: how messages name it.

    Raises:
        UsageError: it is not there, or a folder.
    """
    if not path.exists():
        raise UsageError(f"{where}: no such file. {_LOOK_FOR_IT}")
    if path.is_dir():
        raise UsageError(f"{where}: a folder, not a file.", _NO_FOLDER)


def sha256(path: Path) -> str:
    """Hash of a file's bytes, in hex.

    Raises:
        FewshotError: it cannot be read.
    """
    import hashlib  # not needed for help texts

    with failing_as(path, READING), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    shipped = {path.stem: path for path in sorted(models_folder().glob("*.safetensors"))}
    name = DEFAULT_MODEL if str(base) == DEFAULT_BASE else str(base)
    if name in shipped:
        return shipped[name]
    path = Path(base)
    if path.exists() or path.suffix:
        return path
    names = ", ".join((DEFAULT_BASE, *shipped)) if shipped else "none"
    raise UsageError(f"--base {base}: no such file, and no model of this name. Shipped: {names}.")
