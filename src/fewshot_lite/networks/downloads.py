"""torchvision's ImageNet weights: downloaded once, with a bar, and checked by hash at every use."""

from __future__ import annotations

import contextlib
import hashlib
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

if TYPE_CHECKING:
    from fewshot_lite.networks.torchvision_models import models

#: Seconds without a byte after which a server counts as out of reach.
_PATIENCE = 30.0
#: torchvision's files end in the first digits of their own SHA-256, as resnet18-f37072fd.pth does.
_HASH = re.compile(r"-([a-f0-9]{8,})\.")


def published_weights(name: str) -> models.WeightsEnum:
    """The entry of torchvision's best weights of a network."""
    from fewshot_lite.networks.torchvision_models import models  # not cheap

    entry: models.WeightsEnum = models.get_model_weights(name).DEFAULT
    return entry


def fetch(name: str) -> dict[str, Tensor]:
    """The state dict of a network's weights, from torch's cache or downloaded.

    Raises:
        FewshotError: it cannot be had, or is not what torchvision published.
    """
    entry = published_weights(name)
    _check_cached(entry.url)
    try:
        with contextlib.redirect_stdout(sys.stderr), _patience():
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
    """Refuse a damaged file in the cache: torch checks what it downloads, not what it finds."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    found = _HASH.search(path.name)
    if found is None or not path.is_file():
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(found[1]):
        raise FewshotError(
            f"{path}: damaged, by its hash it is not the file that torchvision publishes. "
            "Delete it, and it will be downloaded again."
        )


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """torch's download waits for ever for a server that does not answer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
