"""Files with torch's tensors: written whole or not, and modules built from them.

See `tensor_files` for what is in a file and how it is read.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fewshot_lite.core import tensor_files
from fewshot_lite.core.files import sha256 as sha256
from fewshot_lite.core.tensor_files import FORMAT as FORMAT
from fewshot_lite.core.tensor_files import describe as describe
from fewshot_lite.core.tensor_files import image_size as image_size
from fewshot_lite.core.tensor_files import read_any as read_any
from fewshot_lite.core.tensor_files import read_meta as read_meta
from fewshot_lite.core.tensor_files import under as under


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a file: named tensors and a JSON-able description."""

    kind: str
    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    halved: frozenset[str] = frozenset()
    """Names of those that the file has in half precision, and that were read as float32."""


def save(
    path: Path,
    kind: str,
    tensors: dict[str, Tensor],
    meta: dict[str, Any],
    *,
    half: bool = False,
    halved: Collection[str] = (),
    force: bool = True,
) -> None:
    """Write a checkpoint.

    Args:
        force: `path` may be there at the end.
        half: store matrices and kernels as float16 (statistics and norm parameters stay float32:
            a running variance does not fit float16's range, nor may a weight).
        halved: names of tensors to store as float16 if they lose nothing by it, as those that were
            read from such a file and are as they were.

    Raises:
        FewshotError: it cannot be written (the previous file, if any, is untouched).
    """
    ready = {
        name: (
            tensor.half()
            if (half and _fits_half(tensor)) or (name in halved and _is_half(tensor))
            else tensor
        )
        .detach()
        .cpu()
        .contiguous()
        for name, tensor in tensors.items()
    }
    entry = tensor_files.metadata(kind, meta)
    with tensor_files.written(path, force=force) as temporary:
        save_file(ready, temporary, metadata=entry)


def _fits_half(tensor: Tensor) -> bool:
    """Whether to store in half precision: matrices and kernels, unless it would overflow."""
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return False
    return bool((tensor.abs() <= torch.finfo(torch.float16).max).all())


def _is_half(tensor: Tensor) -> bool:
    """Whether half precision has room for all that a tensor is; not for what is no number."""
    return tensor.is_floating_point() and torch.equal(tensor.half().to(tensor.dtype), tensor)


def load(path: Path, *kinds: str, flag: str = "") -> Checkpoint:
    """Read a checkpoint of one of these kinds; half-precision tensors come back as float32.

    Args:
        flag: the flag or argument that named the file, for messages.

    Raises:
        UsageError: no such file, or a file of another kind.
        FewshotError: truncated, foreign, or of a newer format.
    """
    tensors, meta = tensor_files.read(path, *kinds, flag=flag, framework="pt")
    halved: frozenset[str] = frozenset()
    if meta["kind"] != "state":
        halved = frozenset(k for k, v in tensors.items() if v.dtype == torch.float16)
        tensors = {k: v.float() if k in halved else v for k, v in tensors.items()}
    return Checkpoint(meta["kind"], tensors, meta, halved)


class Uninitialised(TorchFunctionMode):
    """While it is entered, modules are built without drawing weights.

    On the "meta" device, where nothing can be drawn, torch would import its compiler to do so.
    """

    _DRAWS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Leave out what draws; do all else."""
        return args[0] if func in self._DRAWS else func(*args, **(kwargs or {}))


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
    with torch.device("meta"), Uninitialised(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element")  # will not be loaded
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
