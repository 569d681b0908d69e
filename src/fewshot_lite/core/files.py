"""Check output paths before the work, write files atomically, and find the shipped models."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from fewshot_lite.core.errors import FewshotError, InputError, UsageError

#: The default of `--base`, and the shipped model that it stands for.
DEFAULT_BASE, DEFAULT_MODEL = "default", "simple-cnaps-lite0"

#: The default output of `adapt`, which `classify` reads.
DEFAULT_PERSONAL = Path("personal.safetensors")

#: Failures, for `failing_as`.
WRITING, READING = "could not be written", "cannot be read"

#: Remedies for a missing file, and for a folder in place of a file.
_LOOK_FOR_IT, _NO_FOLDER = "Check its name and its folder.", "Give the file itself."
_CHECK_ACCESS = "Check its permissions and its disk."

#: Why nothing can be opened at a path, and the remedy, by the number of the system's error.
NO_FILE = "no such file"
_MAKE_WRITABLE = "Make that writable, or give another place."
_NOT_WRITABLE = dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _MAKE_WRITABLE)
_NOT_WRITABLE |= dict.fromkeys((errno.EEXIST, errno.ENAMETOOLONG), "Give another name.")
_NOT_THERE = {
    errno.ENOENT: (NO_FILE, _LOOK_FOR_IT),
    errno.ELOOP: ("a link that leads back to itself", "Give what it should lead to."),
    errno.ENAMETOOLONG: ("a name that is too long", _LOOK_FOR_IT),
    errno.EACCES: ("no permission to read it", _CHECK_ACCESS),
    errno.EISDIR: ("a folder, not a file", _NO_FOLDER),
}

#: Endings of exported models, and the message where one is given in place of a model.
EXPORTED = (".onnx", ".pt2")
AN_EXPORT = "an export of a model. Give the .safetensors file that it was exported from."


def as_path(value: object, name: str) -> Path:
    """Return an argument as a path; raise InputError, which names it, for any other type."""
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        if isinstance(path, str) and "\0" in path:
            raise InputError(f"{name}: {path!r} has a NUL byte, as no path has. Take it out.")
        if isinstance(path, str):
            return Path(path)
    raise InputError(f"{name}: {type(value).__name__} is no path. Give a str or a Path.")


def check_output(path: Path, *, force: bool, flag: str = "--output", stream: bool = False) -> None:
    """Check an output path before the work begins.

    Args:
        path: the file to write.
        force: allow an existing file.
        flag: the flag that named it, for error messages.
        stream: allow a device or a pipe, which is written to and never replaced.

    Raises:
        UsageError: it exists and `force` is not set, is a folder or, unless `stream` is set, a
            device, a link in a loop, or its folder is missing or not writable.
    """
    if os.path.isdir(path):
        raise UsageError(f"{flag} {path}: a folder. Give the name of a file in it.")
    if _is_stream(path):
        if stream:
            return
        raise UsageError(f"{flag} {path}: a device or a pipe. Give the name of a file.")
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UsageError(f"{flag} {path}: {why_not_there(error)[0]}. Give another name.") from None
    else:
        if not force:
            raise UsageError(f"{flag} {path}: exists already. Use --force to overwrite it.")
    check_writable(Path(os.path.realpath(path)).parent, f"{flag} {path}")


def check_new_folder(path: Path, flag: str) -> None:
    """Raise UsageError if a folder that is to be made exists, or cannot be made."""
    if os.path.lexists(path):
        raise UsageError(f"{flag} {path}: exists already. Give the name of a new folder.")
    check_writable(path.absolute().parent, f"{flag} {path}")


def check_writable(folder: Path, where: str) -> None:
    """Raise UsageError, which begins with `where`, unless files can be made in a folder."""
    check_there(folder, where, f"there is no folder {folder}", "Create it first.")
    if not folder.is_dir():
        raise UsageError(f"{where}: {folder} is a file, not a folder. Give another name.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{where}: the folder {folder} cannot be written to. Give another.")


def _is_stream(path: Path) -> bool:
    """Return whether a path is a device, a pipe, or an open file descriptor."""
    if str(path.absolute().parent) in ("/dev", "/dev/fd", "/proc/self/fd"):
        return True
    with contextlib.suppress(OSError):
        return not stat.S_ISREG(path.stat().st_mode)
    return False


@contextlib.contextmanager
def failing_as(
    name: object, failure: str = WRITING, kind: type[FewshotError] = FewshotError
) -> Iterator[None]:
    """Convert OSErrors within into a `kind` with name, reason and a remedy, if one is known.

    A BrokenPipeError passes through: the reader of a pipe has left.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        remedy = _NOT_WRITABLE.get(error.errno or 0, "")
        remedy = why_not_there(error)[1] if failure == READING else remedy
        raise kind(f"{name}: {failure} ({reason}). {remedy}".rstrip()) from None


@contextlib.contextmanager
def atomic_path(path: Path, *, prefix: str = "", force: bool = True) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` on success, so `path` is whole or unchanged.

    An existing file's mode and, if permitted, owner are kept; a symbolic link stays and its target
    is replaced. A device or a pipe is written to at the end. Temporary files of killed processes
    are removed.

    Args:
        path: the file to write.
        prefix: of the temporary file's name; the default is the one of `remove_leftovers`.
        force: replace a file that exists at the end.

    Raises:
        FewshotError: a file appeared at `path` meanwhile and `force` is not set.
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
    with locked_temporary(path.parent, prefix or _temporary_prefix(path)) as temporary:
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
    """Create a temporary file, removed at the end unless it was renamed.

    It is locked, so that `remove_leftovers` in other processes sees that it is in use.
    """
    import tempfile

    handle, name = tempfile.mkstemp(dir=folder, prefix=prefix)
    temporary = Path(name)
    try:
        with contextlib.suppress(ImportError, OSError):  # Windows; file systems without locks
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
    """Rename a file within its folder; raise FileExistsError if the new name is taken."""
    try:
        os.link(temporary, path)  # unlike a rename it never overwrites
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "exists", str(path)) from None
        temporary.rename(path)


def _hand_on_access(path: Path, temporary: Path) -> None:
    """Copy mode and owner of the file that is replaced; for a new file, apply the umask."""
    try:
        replaced = path.stat()
    except OSError:
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private
        return
    for owner in ((replaced.st_uid, replaced.st_gid), (-1, replaced.st_gid)):
        with contextlib.suppress(OSError, AttributeError):  # not permitted; Windows
            os.chown(temporary, *owner)
            break
    temporary.chmod(stat.S_IMODE(replaced.st_mode))


def _temporary_prefix(path: Path) -> str:
    return f".fewshot-lite-{path.name[:100]}-"  # file names are limited to 255 characters


def remove_leftovers(path: Path, prefix: str = "") -> None:
    """Remove temporary files that killed processes left beside `path`, except locked ones.

    Args:
        path: the file that was being written.
        prefix: of the temporary files' names, if `atomic_path` was given one.
    """
    name = re.compile(re.escape(prefix or _temporary_prefix(path)) + "[a-z0-9_]{8}")
    with contextlib.suppress(OSError):  # a folder that cannot be listed
        for entry in path.absolute().parent.iterdir():
            if name.fullmatch(entry.name) and entry.is_file() and _is_abandoned(entry):
                entry.unlink(missing_ok=True)


def _is_abandoned(temporary: Path) -> bool:
    """Return whether no process has locked a file; Windows does not delete open files anyway."""
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


def why_not_there(error: OSError | ValueError) -> tuple[str, str]:
    """Return why a path cannot be opened, without the path, and the remedy, as sentences."""
    if not isinstance(error, OSError):  # NUL, or not valid Unicode
        return "a name that no file can have", _LOOK_FOR_IT
    path = Path(os.fsdecode(error.filename or ""))
    if error.errno == errno.ENOENT and path.is_symlink():
        return f"a link to {path.readlink().name}, which is not there", _LOOK_FOR_IT
    if error.errno == errno.ENOENT and path.parts[:1] in (("http:",), ("https:",)):
        return "an address on the web, not a file", "Download it, and give the file."
    if error.errno == errno.ENOTDIR:
        file = next((p for p in path.parents if os.path.exists(p)), path)
        return f"{file} is a file, not a folder", _LOOK_FOR_IT
    other = (error.strerror or str(error)).lower()
    return _NOT_THERE.get(error.errno or 0, (other, _CHECK_ACCESS))


def check_there(
    path: Path, where: object = None, missing: str = NO_FILE, remedy: str = _LOOK_FOR_IT
) -> None:
    """Raise UsageError, which says why, if no file or folder is found at a path.

    It begins with `where`, or the path; `missing` and `remedy` are for a path with just nothing.
    """
    try:
        path.stat()
    except (OSError, ValueError) as error:
        reason, mend = why_not_there(error)
        reason, mend = (missing, remedy) if reason == NO_FILE else (reason, mend)
        shown = str(where or path).replace("\0", "\\0")
        raise UsageError(f"{shown}: {reason}. {mend}") from None


def check_file(path: Path, where: str) -> None:
    """Raise UsageError, which names the file as `where`, if it does not exist or is a folder."""
    check_there(path, where)
    if path.is_dir():
        raise UsageError(f"{where}: a folder, not a file.", _NO_FOLDER)


def sha256(path: Path) -> str:
    """Return the hash of a file in hex; raise FewshotError if it cannot be read."""
    import hashlib  # not needed for help texts

    with failing_as(path, READING), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def models_folder() -> Path:
    """Return the folder of the shipped checkpoints: in the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "models"
    return packaged if packaged.is_dir() else package.parents[1] / "models"


def find_base(base: str | Path) -> Path:
    """Return the file of a base, given by path or by a shipped model's name.

    Raises:
        UsageError: it is neither.
    """
    shipped = {path.stem: path for path in sorted(models_folder().glob("*.safetensors"))}
    name = DEFAULT_MODEL if str(base) == DEFAULT_BASE else str(base)
    if name in shipped:
        return shipped[name]
    path = Path(base)
    if os.path.lexists(path) or path.suffix or os.sep in str(base):
        return path
    names = ", ".join((DEFAULT_BASE, *shipped)) if shipped else "none"
    raise UsageError(f"--base {base}: no such file, and no model of this name. Shipped: {names}.")
