"""Download torchvision's ImageNet weights once, and check their hash at every use."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import torch
from torch import Tensor

from fewshot_lite.core.errors import FewshotError, first_line
from fewshot_lite.core.files import sha256

if TYPE_CHECKING:
    from fewshot_lite.networks.torchvision_models import models

#: Socket timeout in seconds.
_TIMEOUT = 30.0
#: torchvision's file names end in the first digits of their SHA-256, e.g. resnet18-f37072fd.pth.
_HASH = re.compile(r"-([a-f0-9]{8,})\.")


def published_weights(name: str) -> models.WeightsEnum:
    """Return torchvision's entry of a network's best weights."""
    from fewshot_lite.networks.torchvision_models import models  # slow to import

    entry: models.WeightsEnum = models.get_model_weights(name).DEFAULT
    return entry


def fetch(name: str) -> dict[str, Tensor]:
    """Return the state dict of a network's weights, from torch's cache or downloaded.

    Raises:
        FewshotError: the download fails, or the file's hash is wrong.
    """
    entry = published_weights(name)
    _check_cached(entry.url)
    try:
        with contextlib.redirect_stdout(sys.stderr), _socket_timeout():
            state: dict[str, Tensor] = entry.get_state_dict(
                progress=sys.stderr.isatty(), check_hash=True, weights_only=True
            )
            return state
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        # URLError is an OSError; a wrong hash is a RuntimeError.
        reason = first_line(getattr(error, "reason", None) or error)
        raise FewshotError(
            f"The ImageNet weights of {name} could not be had ({reason}). "
            "Without a network use the shipped model (leave --base out), a checkpoint of your own "
            "(--base FILE), or --weights FILE with a copy of torchvision's file; to train, also "
            "--weights none."
        ) from None


def _check_cached(url: str) -> None:
    """Raise FewshotError for a damaged file in the cache; torch checks only its downloads."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    match = _HASH.search(path.name)
    if match is None or not path.is_file():
        return
    if not sha256(path).startswith(match[1]):
        raise FewshotError(
            f"{path}: damaged, by its hash it is not the file that torchvision publishes. "
            "Delete it, and it will be downloaded again."
        )


@contextlib.contextmanager
def _socket_timeout() -> Iterator[None]:
    """Context with a socket timeout, as torch's download would wait for a silent server forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
