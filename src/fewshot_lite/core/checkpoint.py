"""Files: safetensors with one JSON entry, read with every claim checked, written whole or not.

Kinds: "backbone" (pretrain), "meta" (meta-train), "personal" (adapt), "state" (to resume training).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import atomic_path
from fewshot_lite.core.files import sha256 as sha256

#: Raised with every change that older versions could not read; all up to it are read. 2: pooling.
FORMAT = 2
#: Sides of images in pixels that models are made for.
SMALLEST, LARGEST = 16, 1024
_KEY = "fewshot_lite"

_MAKERS = {
    "backbone": "pretrain",
    "meta": "meta-train",
    "personal": "adapt",
    "state": "training, to resume from",
}


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: named tensors and a JSON-able description."""

    kind: str
    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def describe(kind: str) -> str:
    """A kind in words, for messages."""
    article = {"meta": "a meta-trained model", "personal": "a personal model"}
    return article.get(kind, f"a {kind} file")


def save(
    path: Path,
    kind: str,
    tensors: dict[str, Tensor],
    meta: dict[str, Any],
    *,
    half: bool = False,
    force: bool = True,
) -> None:
    """Write a checkpoint.

    Args:
        force: `path` may be there at the end.
        half: store matrices and kernels as float16 (statistics and norm parameters stay float32:
            a running variance does not fit float16's range, nor may a weight).

    Raises:
        FewshotError: it cannot be written (the previous file, if any, is untouched).
    """
    ready = {
        name: (tensor.half() if half and _fits_half(tensor) else tensor).detach().cpu().contiguous()
        for name, tensor in tensors.items()
    }
    entry = json.dumps({"format": FORMAT, "kind": kind, **meta})
    try:
        with atomic_path(path, force=force) as temporary:
            save_file(ready, temporary, metadata={_KEY: entry})
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FewshotError(f"{path}: could not be written ({reason}).") from None


def _fits_half(tensor: Tensor) -> bool:
    """Whether to store in half precision: matrices and kernels, unless it would overflow."""
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return False
    return bool((tensor.abs() <= torch.finfo(torch.float16).max).all())


def load(path: Path, *kinds: str, flag: str = "") -> Checkpoint:
    """Read a checkpoint of one of these kinds; half-precision tensors come back as float32.

    Args:
        flag: the flag or argument that named the file, for messages.

    Raises:
        UsageError: no such file, or a file of another kind.
        FewshotError: truncated, foreign, or of a newer format.
    """
    where = f"{flag} {path}".strip()
    if not path.exists():
        raise UsageError(f"{where}: no such file.")
    if path.is_dir():
        raise UsageError(f"{where}: a folder, not a file.")
    tensors, meta = read_any(path)
    if meta is None:
        raise FewshotError(f"{where}: a safetensors file, but not one of fewshot-lite's.")
    if meta["kind"] not in kinds:
        wanted = " or ".join(f"{describe(k)} (made by {_MAKERS[k]})" for k in kinds)
        raise UsageError(f"{where}: {describe(meta['kind'])}; {wanted} is needed here.")
    if meta["kind"] != "state":
        tensors = {k: v.float() if v.dtype == torch.float16 else v for k, v in tensors.items()}
    return Checkpoint(meta["kind"], tensors, meta)


def read_meta(path: Path) -> dict[str, Any]:
    """The description alone, without reading the tensors.

    Raises:
        UsageError: no such file.
        FewshotError: as `load`.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file.")
    if path.is_dir():
        raise UsageError(f"{path}: a folder, not a file.")
    _, meta = read_any(path, tensors=False)
    if meta is None:
        raise FewshotError(f"{path}: a safetensors file, but not one of fewshot-lite's.")
    return meta


def read_any(
    path: Path, *, tensors: bool = True
) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Tensors and description of any safetensors file; the description is None in foreign ones."""
    try:
        with safe_open(path, framework="pt") as file:
            entry = (file.metadata() or {}).get(_KEY)
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 if tensors else {}
    except SafetensorError as error:
        reason = "truncated or damaged" if "ncomplete" in str(error) else "not a safetensors file"
        raise FewshotError(f"{path}: {reason}.") from None
    except OSError as error:
        raise FewshotError(f"{path}: cannot be read ({error.strerror or error}).") from None
    if entry is None:
        return found, None
    try:
        meta = json.loads(entry)
        version, kind = meta["format"], meta["kind"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FewshotError(f"{path}: its description is damaged.") from None
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise FewshotError(
            f"{path}: format version {version}, and this fewshot-lite reads 1 to {FORMAT}. "
            "Upgrade fewshot-lite, or make the file anew."
        )
    if not isinstance(kind, str):
        raise FewshotError(f"{path}: its description is damaged.")
    return found, meta


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def image_size(meta: dict[str, Any]) -> int:
    """The image size that a description names.

    Raises:
        ValueError: it names none that `pretrain` or `meta-train` could have written.
    """
    size = meta["image_size"]
    if type(size) is not int or not SMALLEST <= size <= LARGEST:
        raise ValueError(f"image_size {size!r}")
    return size
