"""Write torch tensors to safetensors files atomically, read them, and build modules from them.

The file format is described in `tensor_files`.
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
    """Contents of a file: named tensors and a JSON-able description."""

    kind: str
    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    halved: frozenset[str] = frozenset()
    """Names of tensors stored in half precision, which were converted to float32."""


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
    """Write a checkpoint atomically.

    Args:
        half: store matrices and kernels as float16 (vectors stay float32: a running variance may
            exceed float16's range).
        halved: names of tensors to store as float16 if that is lossless, e.g. those that were
            float16 in the file they came from.
        force: overwrite a file at `path`.

    Raises:
        FewshotError: `path` cannot be written; an existing file is left unchanged.
    """

    def stored(name: str, tensor: Tensor) -> Tensor:
        to_half = (half and _fits_half(tensor)) or (name in halved and _lossless_in_half(tensor))
        return (tensor.half() if to_half else tensor).detach().cpu().contiguous()

    contents = {name: stored(name, tensor) for name, tensor in tensors.items()}
    entry = tensor_files.metadata(kind, meta)
    with tensor_files.written(path, force=force) as temporary:
        save_file(contents, temporary, metadata=entry)


def _fits_half(tensor: Tensor) -> bool:
    """Return True for matrices and kernels without values beyond float16's range."""
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return False
    return bool((tensor.abs() <= torch.finfo(torch.float16).max).all())


def _lossless_in_half(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and torch.equal(tensor.half().to(tensor.dtype), tensor)


def load(path: Path, *kinds: str, flag: str = "") -> Checkpoint:
    """Read a checkpoint of one of these kinds; float16 tensors are returned as float32.

    Args:
        flag: the flag or argument that named the file, for error messages.

    Raises:
        UsageError: the file does not exist, or is of another kind.
        FewshotError: it is truncated, not ours, or in a newer format.
    """
    tensors, meta = tensor_files.read(path, *kinds, flag=flag, framework="pt")
    halved: frozenset[str] = frozenset()
    if meta["kind"] != "state":
        halved = frozenset(k for k, v in tensors.items() if v.dtype == torch.float16)
        tensors = {k: v.float() if k in halved else v for k, v in tensors.items()}
    return Checkpoint(meta["kind"], tensors, meta, halved)


class Uninitialised(TorchFunctionMode):
    """Context in which modules are built without drawing random weights.

    On the "meta" device torch would import its compiler to draw them.
    """

    _DRAWS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return args[0] if func in self._DRAWS else func(*args, **(kwargs or {}))


Module = TypeVar("Module", bound=nn.Module)


def build(make: Callable[[], Module], tensors: Mapping[str, Tensor]) -> Module:
    """Construct a module and load copies of a file's tensors into it.

    The module is constructed on torch's "meta" device, which allocates nothing, so a description
    that asks for more than the file holds costs no memory.

    Args:
        make: calls the constructors; a tensor computed there and not loaded must name its device.
        tensors: the module's state dict.

    Raises:
        RuntimeError: names or shapes differ, or a dtype cannot be converted.
    """
    with torch.device("meta"), Uninitialised(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element")  # will not be loaded
        module = make()
    dtypes = {name: value.dtype for name, value in module.state_dict().items()}
    state = {}
    for name, value in tensors.items():
        dtype = dtypes.get(name, value.dtype)
        if not torch.can_cast(value.dtype, dtype):  # e.g. complex to real
            raise RuntimeError(f"{name} has another type")
        state[name] = value.to(dtype, copy=True)
    module.load_state_dict(state, assign=True)
    return module
