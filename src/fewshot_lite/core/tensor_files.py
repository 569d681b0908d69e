"""Read and write safetensors files with one JSON metadata entry, without importing torch.

Kinds: "backbone" (pretrain), "meta" (meta-train), "personal" (adapt), "state" (to resume training).

Every file carries its own checksum (see `checksums`), which detects accidental damage: of changes
in one place, all but one in four billion. It does not protect from deliberate changes. Older files,
the shipped model among them, have a checksum of their tensors one by one, the first files none.
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

#: Format version, incremented when older versions cannot read the change; 1 to FORMAT are read.
FORMAT = 2
#: Smallest and largest image size in pixels of models.
SMALLEST, LARGEST = 16, 1024
#: The file's one metadata entry.
KEY = "fewshot_lite"
#: Bytes from which on a file is rejected, except for training states: far beyond any model, while
#: a sparse file of this size costs nothing to make.
_LARGEST_FILE = 4 * 2**30

T = TypeVar("T")
#: Read torch tensors or NumPy arrays; NumPy has no bfloat16.
Framework = Literal["pt", "np"]

_FOREIGN = "a safetensors file, but not one of fewshot-lite's"
_MAKERS = {
    "backbone": "pretrain",
    "meta": "meta-train",
    "personal": "adapt",
    "state": "training, to resume from",
}


def describe(kind: str) -> str:
    """Return a noun phrase for a kind of file, for messages."""
    phrases = {"meta": "a meta-trained model", "personal": "a personal model"}
    return phrases.get(kind, f"a {kind} file")


def read(
    path: Path, *kinds: str, flag: str = "", framework: Framework
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors, with their stored dtypes, and the description of a file.

    Args:
        kinds: the kinds of file that are accepted.
        flag: the flag or argument that named the file, for error messages.

    Raises:
        UsageError: the file does not exist, or is of another kind.
        FewshotError: it is truncated, not ours, or in a newer format.
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
        needed = " or ".join(f"{describe(k)} (made by {_MAKERS[k]})" for k in kinds)
        raise UsageError(f"{where}: {describe(meta['kind'])}; {needed} is needed here.")
    return tensors, meta


def write(
    path: Path,
    kind: str,
    arrays: Mapping[str, npt.NDArray[Any]],
    meta: Mapping[str, Any],
    *,
    force: bool = True,
) -> None:
    """Write NumPy arrays and their description atomically; `force` overwrites an existing file.

    Raises:
        FewshotError: `path` cannot be written; an existing file is left unchanged.
    """
    from safetensors.numpy import save_file

    ready = {name: np.ascontiguousarray(v).reshape(v.shape) for name, v in arrays.items()}
    entry = metadata(kind, meta)
    with written(path, force=force) as temporary:
        save_file(ready, temporary, metadata=entry)


def metadata(kind: str, meta: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a file of this kind; `written` fills in the checksum."""
    return {KEY: json.dumps({CHECKSUM: UNKNOWN, "format": FORMAT, "kind": kind, **meta})}


@contextlib.contextmanager
def written(path: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary path whose safetensors file gets its checksum, then replaces `path`.

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
    """Return a file's description without reading its tensors.

    Raises:
        UsageError: the file does not exist.
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
    """Return tensors and description of any safetensors file; the description is None if not ours.

    Args:
        tensors: read the tensors and verify the checksum; if False, the dict is empty.
        framework: the library whose tensors are returned.
        bounded: reject a file of more than 4 GB before reading its tensors.

    Raises:
        UsageError: the file is an exported model.
        FewshotError: it is truncated, damaged, not a safetensors file, or in a newer format.
    """
    contents: dict[str, Any] = {}
    try:
        with (
            failing_as(path, READING),
            safe_open(path, framework=framework if tensors else "np") as file,
        ):
            entry = (file.metadata() or {}).get(KEY)
            if tensors and bounded and path.stat().st_size > _LARGEST_FILE:
                raise FewshotError(f"{path}: larger than 4 GB, which no model is. Give another.")
            if tensors:
                contents = {name: file.get_tensor(name) for name in list(file.keys())}
    except SafetensorError as error:
        if "ncomplete" in str(error):
            raise FewshotError(f"{path}: truncated or damaged.", TAKE_ANOTHER) from None
        if path.suffix.lower() in EXPORTED:
            raise UsageError(f"{path}: {AN_EXPORT}") from None
        raise FewshotError(
            f"{path}: not a safetensors file, as models are.", "Give one, or another copy of it."
        ) from None
    if entry is None:
        return contents, None
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
        whole = not tensors or old is None or old == _old_checksum(meta, contents)
    if not whole:
        raise FewshotError(f"{path}: damaged, its checksum is wrong.", TAKE_ANOTHER)
    return contents, meta


def _old_checksum(meta: dict[str, Any], tensors: Mapping[str, Any]) -> int:
    """Return older files' checksum: CRC-32 of the description, names, dtypes, shapes and values."""
    value = zlib.crc32(json.dumps(meta).encode())
    dtypes: dict[Any, str] = {}  # formatting a dtype takes as long as the checksum of a layer
    for name in sorted(tensors):
        tensor = tensors[name]
        dtype = dtypes.get(tensor.dtype)
        if dtype is None:
            prefix = "torch." if isinstance(tensor, np.ndarray) else ""
            dtype = dtypes[tensor.dtype] = f"{prefix}{tensor.dtype}"
        value = zlib.crc32(f"{name} {dtype} {[*tensor.shape]}".encode(), value)
        value = zlib.crc32(_raw_bytes(tensor).data, value)
    return value


def _raw_bytes(tensor: Any) -> npt.NDArray[Any]:
    """Return the values of a tensor or array as contiguous memory."""
    if isinstance(tensor, np.ndarray):
        return np.ascontiguousarray(tensor)
    import torch

    if tensor.dtype in (torch.float32, torch.float16) and tensor.is_contiguous():  # the fast path
        return tensor.numpy()  # type: ignore[no-any-return]
    return tensor.contiguous().flatten().view(torch.uint8).numpy()  # type: ignore[no-any-return]


def under(prefix: str, tensors: Mapping[str, T]) -> dict[str, T]:
    """Return the tensors whose names begin with a prefix, with the prefix removed."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def image_size(meta: dict[str, Any]) -> int:
    """Return the image size in a description; raise ValueError if it is not a valid one."""
    size = meta["image_size"]
    if type(size) is not int or not SMALLEST <= size <= LARGEST:
        raise ValueError(f"image_size {size!r}")
    return size
