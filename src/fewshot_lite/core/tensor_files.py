"""Reading files: safetensors with one JSON entry, every claim checked; this does not import torch.

Kinds: "backbone" (pretrain), "meta" (meta-train), "personal" (adapt), "state" (to resume training).

Every file carries a checksum of itself (see `checksums`). It finds what disks, cables and copies
do to a file: of changes in one place, all but one of four billion. It is no protection from
somebody who means to change a file and its checksum. Files of before have another one, of their
tensors one by one, and the first files none; they are read all the same.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from fewshot_lite.core import jsons
from fewshot_lite.core.checksums import CHECKSUM, UNKNOWN, is_whole, mapped, place_at_start, stamp
from fewshot_lite.core.errors import TAKE_ANOTHER, FewshotError, UsageError
from fewshot_lite.core.files import (
    AN_EXPORT,
    EXPORTED,
    READING,
    atomic_path,
    check_file,
    failing_as,
)

#: Raised with every change that older versions could not read; all up to it are read.
FORMAT = 2
#: Sides of images in pixels that models are made for.
SMALLEST, LARGEST = 16, 1024
#: The one entry of a file's metadata.
KEY = "fewshot_lite"
#: Bytes of a file whose tensors are read, but for states to resume from. No model comes near it,
#: and a sparse file costs nothing to make.
_LARGEST_FILE = 4 * 2**30

T = TypeVar("T")
#: The library whose tensors are read: torch, or NumPy, whose arrays have no bfloat16.
Framework = Literal["pt", "np"]

_FOREIGN = "a safetensors file, but not one of fewshot-lite's"
_MAKERS = {
    "backbone": "pretrain",
    "meta": "meta-train",
    "personal": "adapt",
    "state": "training, to resume from",
}


def describe(kind: str) -> str:
    """A kind in words, for messages."""
    article = {"meta": "a meta-trained model", "personal": "a personal model"}
    return article.get(kind, f"a {kind} file")


def read(
    path: Path, *kinds: str, flag: str = "", framework: Framework
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors, as they are stored, and description of a file of one of these kinds.

    Args:
        flag: the flag or argument that named the file, for messages.

    Raises:
        UsageError: no such file, or a file of another kind.
        FewshotError: truncated, foreign, or of a newer format.
    """
    where = f"{flag} {path}".strip()
    check_file(path, where)
    tensors, meta = read_any(path, framework=framework, bounded="state" not in kinds)
    if meta is None:
        makers = " or ".join(f"`{_MAKERS[kind]}`" for kind in kinds if kind != "state")
        remedy = f"Give one that {makers} wrote" if makers else "Begin anew with --force"
        if "meta" in kinds:
            remedy += "; weights of a network go with its name: --base NAME --weights FILE"
        raise FewshotError(f"{where}: {_FOREIGN}.", f"{remedy}.")
    if meta["kind"] not in kinds:
        wanted = " or ".join(f"{describe(k)} (made by {_MAKERS[k]})" for k in kinds)
        raise UsageError(f"{where}: {describe(meta['kind'])}; {wanted} is needed here.")
    return tensors, meta


def write(
    path: Path,
    kind: str,
    arrays: Mapping[str, npt.NDArray[Any]],
    meta: Mapping[str, Any],
    *,
    force: bool = True,
) -> None:
    """Write a file, whole or not at all.

    Args:
        force: `path` may be there at the end.

    Raises:
        FewshotError: it cannot be written (the previous file, if any, is untouched).
    """
    from safetensors.numpy import save_file

    ready = {name: np.ascontiguousarray(v).reshape(v.shape) for name, v in arrays.items()}
    entry = metadata(kind, meta)
    with written(path, force=force) as temporary:
        save_file(ready, temporary, metadata=entry)


def metadata(kind: str, meta: Mapping[str, Any]) -> dict[str, str]:
    """That of a file of this kind, whose checksum `written` puts in."""
    beginning = {CHECKSUM: UNKNOWN, "format": FORMAT, "kind": kind}
    return {KEY: json.dumps({**beginning, **meta})}


@contextlib.contextmanager
def written(path: Path, *, force: bool) -> Iterator[Path]:
    """A temporary file of safetensors that has its checksum and the place of `path` in the end.

    Raises:
        FewshotError: it cannot be written.
    """
    try:
        with atomic_path(path, force=force) as temporary:
            yield temporary
            stamp(temporary)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FewshotError(f"{path}: could not be written ({reason}).") from None


def read_meta(path: Path) -> dict[str, Any]:
    """The description alone, without reading the tensors.

    Raises:
        UsageError: no such file.
        FewshotError: as `read`.
    """
    check_file(path, str(path))
    _, meta = read_any(path, tensors=False)
    if meta is None:
        raise FewshotError(f"{path}: {_FOREIGN}. Give one that fewshot-lite wrote.")
    return meta


def read_any(
    path: Path, *, tensors: bool = True, framework: Framework = "pt", bounded: bool = True
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Tensors and description of any safetensors file; the description is None in foreign ones.

    Args:
        tensors: read them, and compare the checksum with them; without, there are none.
        framework: what as.
        bounded: refuse a file of more than 4 GB before its tensors are read.

    Raises:
        UsageError: an export of a model.
        FewshotError: truncated, damaged, no safetensors file, or of a newer format.
    """
    found: dict[str, Any] = {}
    try:
        with (
            failing_as(path, READING),
            safe_open(path, framework=framework if tensors else "np") as file,
        ):
            entry = (file.metadata() or {}).get(KEY)
            if tensors and bounded and path.stat().st_size > _LARGEST_FILE:
                raise FewshotError(f"{path}: larger than 4 GB, which no model is. Give another.")
            if tensors:
                found = {name: file.get_tensor(name) for name in list(file.keys())}
    except SafetensorError as error:
        if "ncomplete" in str(error):
            raise FewshotError(f"{path}: truncated or damaged.", TAKE_ANOTHER) from None
        if path.suffix.lower() in EXPORTED:
            raise UsageError(f"{path}: {AN_EXPORT}") from None
        raise FewshotError(
            f"{path}: not a safetensors file, as models are.", "Give one, or another copy of it."
        ) from None
    if entry is None:
        return found, None
    try:
        meta = jsons.loads(entry)
        version, kind = meta["format"], meta["kind"]
        has_checksum, old = meta.pop(CHECKSUM, None) is not None, meta.pop("crc32", None)
        if not isinstance(kind, str):
            raise TypeError(kind)
    except (ValueError, KeyError, TypeError):
        raise FewshotError(f"{path}: its description is damaged.", TAKE_ANOTHER) from None
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise FewshotError(
            f"{path}: format version {version}, and this fewshot-lite reads 1 to {FORMAT}. "
            "Upgrade fewshot-lite, or make the file anew."
        )
    if has_checksum:
        whole = not tensors or is_whole(data := mapped(path), place_at_start(data))
    else:
        whole = not tensors or old is None or old == old_checksum(meta, found)
    if not whole:
        raise FewshotError(f"{path}: damaged, its checksum is wrong.", TAKE_ANOTHER)
    return found, meta


def old_checksum(meta: dict[str, Any], tensors: Mapping[str, Any]) -> int:
    """The checksum that files had before: CRC-32 of a description and of tensors.

    It counts their names, types, shapes and values.

    Args:
        tensors: torch's, or NumPy's arrays: the same values have the same checksum.
    """
    value = zlib.crc32(json.dumps(meta).encode())
    kinds: dict[Any, str] = {}  # writing the name of a type takes as long as the sum of a layer
    for name in sorted(tensors):
        tensor = tensors[name]
        kind = kinds.get(tensor.dtype)
        if kind is None:
            numpys = isinstance(tensor, np.ndarray)
            kind = kinds[tensor.dtype] = f"torch.{tensor.dtype}" if numpys else str(tensor.dtype)
        value = zlib.crc32(f"{name} {kind} {[*tensor.shape]}".encode(), value)
        value = zlib.crc32(_contiguous(tensor).data, value)
    return value


def _contiguous(tensor: Any) -> npt.NDArray[Any]:
    """The values of a tensor as they lie in memory, row by row."""
    if isinstance(tensor, np.ndarray):
        return np.ascontiguousarray(tensor)
    import torch

    if tensor.dtype in (torch.float32, torch.float16) and tensor.is_contiguous():  # most, at once
        return tensor.numpy()  # type: ignore[no-any-return]
    return tensor.contiguous().flatten().view(torch.uint8).numpy()  # type: ignore[no-any-return]


def under(prefix: str, tensors: Mapping[str, T]) -> dict[str, T]:
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
