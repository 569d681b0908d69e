"""What `serve` was given, and the folder that the page works on; this does not import torch."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from fewshot_lite.core.errors import UsageError
from fewshot_lite.core.files import DEFAULT_PERSONAL, sha256
from fewshot_lite.images.folders import require_folder
from fewshot_lite.serve.guard import LOOPBACK, Limits

#: A token that can be a cookie, and that is not guessed.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,200}")


@dataclass(frozen=True)
class Target:
    """A folder to work on, and the model to begin with in it."""

    folder: Path
    model: Path | None = None
    """To be opened when the folder is new."""


@dataclass(frozen=True)
class Service:
    """Where something is served, and whom it answers."""

    host: str = "127.0.0.1"
    port: int | None = None
    """None for the usual one, or any that is free."""
    token: str | None = None
    """What has to be shown, on an address that others can reach."""
    at_work: int = 32
    """Requests that are worked on at a time, in each process."""

    def limits(self) -> Limits:
        """What is let in: any address but this machine's own for itself needs a token.

        Raises:
            UsageError: it has none, or one that is short or no cookie.
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


def find_target(given: Path | None) -> Target:
    """Where the page keeps its photos: the folder given, or one of its own in the user's home.

    Raises:
        UsageError: neither a folder nor a file that could be a personal model.
    """
    if given is None:
        return Target(_own_folder() / "page")
    if given.is_dir():
        return Target(require_folder(given))
    check_model(given)
    if given.suffix.lower() != ".safetensors":
        raise UsageError(
            f"{given}: give the .safetensors file that `adapt` wrote, whose classes can be changed."
            " Its export can be served with --api-only."
        )
    return Target(_own_folder() / f"{given.stem}-{sha256(given)[:12]}", given)


def check_model(path: Path) -> None:
    """Refuse what is no file.

    Raises:
        UsageError: it is none.
    """
    if path.is_dir():
        raise UsageError(f"{path}: a folder. With --api-only, give a personal model.")
    if not path.exists():
        hint = " Make one with `fewshot-lite adapt FOLDER`." if path == DEFAULT_PERSONAL else ""
        raise UsageError(f"{path}: no such file or folder.{hint}")


def check_web() -> None:
    """Refuse to begin where the extra `web` is not installed.

    Raises:
        UsageError: it is not.
    """
    from importlib.util import find_spec

    for package in ("starlette", "uvicorn", "python_multipart"):
        if find_spec(package) is None:
            raise UsageError(
                f"serve: needs {package}. Install the extra: pip install 'fewshot-lite[web]'."
            )


def _own_folder() -> Path:
    """Where programs keep a user's data on this system."""
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        home = str(Path.home() / "Library" / "Application Support")
    else:
        home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "fewshot-lite"
