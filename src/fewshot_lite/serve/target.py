"""The arguments of `serve`: folder, address and token, checked without importing torch."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from zipfile import is_zipfile

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import EXPORTED, check_there, sha256
from fewshot_lite.images.folders import require_folder
from fewshot_lite.serve.guard import LOOPBACK, Limits

#: A token that can be a cookie's value, and is long enough.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,200}")


@dataclass(frozen=True)
class Target:
    """The folder of the page, and a model to open if the folder is new."""

    folder: Path
    model: Path | None = None


@dataclass(frozen=True)
class Service:
    """The address of a server and the limits on its requests."""

    host: str = "127.0.0.1"
    port: int | None = None
    """None for the usual one, or any free one."""
    token: str | None = None
    """The token that requests need on other addresses than loopback."""
    at_work: int = 32
    """The number of requests handled at a time by each process."""

    def limits(self) -> Limits:
        """Return the limits on requests.

        Raises:
            UsageError: the token is missing on an address that needs one, too short or no cookie.
        """
        loopback = self.host in LOOPBACK
        if self.token is None and not loopback:
            raise UsageError(
                f"--host {self.host}: others can reach it, so it needs --token with at least 16 "
                "letters and digits that nobody guesses, or FEWSHOT_LITE_TOKEN in the environment."
            )
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise UsageError("--token: give 16 to 200 characters of A-Z, a-z, 0-9, - and _.")
        return Limits(loopback=loopback, token=self.token, at_work=self.at_work)


def find_target(path: Path | None) -> Target:
    """Return the target of a folder, of a personal model, or of the user's data folder (None).

    Raises:
        UsageError: neither a folder nor a file that could be a personal model.
    """
    if path is None:
        return Target(_data_folder() / "page")
    if os.path.isdir(path):
        return Target(require_folder(path))
    check_model(path)
    if path.suffix.lower() != ".safetensors":
        raise UsageError(
            f"{path}: give the .safetensors file that `adapt` wrote, whose classes can be changed, "
            f"or a folder with one folder of photos per class.{_hint(path)}"
        )
    return Target(_data_folder() / f"{path.stem}-{sha256(path)[:12]}", path)


def _hint(path: Path) -> str:
    """Return what can be done with a file that the page cannot open, if anything."""
    if path.suffix.lower() in EXPORTED:
        return " An export can be served with --api-only."
    return " Unpack the archive into one." if is_zipfile(path) else ""


def check_model(path: Path) -> None:
    """Raise UsageError if there is no such file."""
    remedy = "Check its name. Make one with `fewshot-lite adapt FOLDER`."
    check_there(path, missing="no such file or folder", remedy=remedy)
    if path.is_dir():
        raise UsageError(f"{path}: a folder. With --api-only, give a personal model.")


def check_web() -> None:
    """Raise UsageError if the extra `web` is not installed."""
    from importlib.util import find_spec

    for package in ("starlette", "uvicorn", "python_multipart"):
        if find_spec(package) is None:
            raise UsageError(
                f"serve: needs {package}. Install the extra: pip install 'fewshot-lite[web]'."
            )


def _data_folder() -> Path:
    """Return the folder for the user's data on this system."""
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        home = str(Path.home() / "Library" / "Application Support")
    else:
        home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "fewshot-lite"
