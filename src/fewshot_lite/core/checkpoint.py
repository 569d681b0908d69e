"""Files: safetensors with one JSON entry, read with every claim checked, written whole or not.

Kinds: "backbone" (pretrain), "meta" (meta-train), "personal" (adapt), "state" (to resume training).

Every file carries a checksum of its description and its tensors (CRC-32). It finds what disks,
cables and copies do to a file: any change within 32 neighbouring bits, and all but one of four
billion others. It is no protection from somebody who means to change a file and its checksum.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fewshot_lite.core import jsons
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import atomic_path
from fewshot_lite.core.files import sha256 as sha256

#: Raised with every change that older versions could not read; all up to it are read.
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
    """The contents of a file: named tensors and a JSON-able description."""

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
    description = {"format": FORMAT, "kind": kind, **meta}
    description["crc32"] = _checksum(description, ready)
    entry = json.dumps(description)
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
    """Tensors and description of any safetensors file; the description is None in foreign ones.

    Args:
        tensors: read them, and compare the checksum with them; without, there are none.

    Raises:
        FewshotError: truncated, damaged, no safetensors file, or of a newer format.
    """
    found: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            entry = (file.metadata() or {}).get(_KEY)
            if tensors:
                found = {name: file.get_tensor(name) for name in list(file.keys())}
    except SafetensorError as error:
        reason = "truncated or damaged" if "ncomplete" in str(error) else "not a safetensors file"
        raise FewshotError(f"{path}: {reason}.") from None
    except OSError as error:
        raise FewshotError(f"{path}: cannot be read ({error.strerror or error}).") from None
    if entry is None:
        return found, None
    try:
        meta = jsons.loads(entry)
        version, kind, checksum = meta["format"], meta["kind"], meta.pop("crc32", None)
        if not isinstance(kind, str):
            raise TypeError(kind)
    except (ValueError, KeyError, TypeError):
        raise FewshotError(f"{path}: its description is damaged.") from None
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise FewshotError(
            f"{path}: format version {version}, and this fewshot-lite reads 1 to {FORMAT}. "
            "Upgrade fewshot-lite, or make the file anew."
        )
    if tensors and checksum not in (None, _checksum(meta, found)):  # the first files had none
        raise FewshotError(
            f"{path}: damaged, its checksum is wrong. Take another copy, or make the file anew."
        )
    return found, meta


def _checksum(meta: dict[str, Any], tensors: dict[str, Tensor]) -> int:
    """CRC-32 of a description and of the names, types, shapes and values of tensors."""
    value = zlib.crc32(json.dumps(meta).encode())
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.contiguous().flatten().view(torch.uint8).numpy().data, value)
    return value


Module = TypeVar("Module", bound=nn.Module)


def build(make: Callable[[], Module], tensors: Mapping[str, Tensor]) -> Module:
    """Make a module as a description says and give it a file's tensors.

    It is made on torch's "meta" device, where nothing is allocated, so a description that asks for
    more than the file holds costs nothing; the tensors then take their places, copied.

    Args:
        make: calls the constructors; what is computed there and not loaded has to name its device.
        tensors: by the names of the module's state.

    Raises:
        RuntimeError: names or shapes differ, or types so that values would be lost.
    """
    with torch.device("meta"):
        module = make()
    kinds = {name: value.dtype for name, value in module.state_dict().items()}
    copied = {}
    for name, value in tensors.items():
        kind = kinds.get(name, value.dtype)
        if not torch.can_cast(value.dtype, kind):  # complex numbers to real ones, say
            raise RuntimeError(f"{name} has another type")
        copied[name] = value.to(kind, copy=True)
    module.load_state_dict(copied, assign=True)
    return module


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
