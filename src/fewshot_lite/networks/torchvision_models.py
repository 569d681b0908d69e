"""torchvision's networks, imported without torch's compiler, and built without random weights.

`torchvision.ops.roi_align`, which detectors need and nothing here does, asks torch._dynamo for one
function when it is imported, and that takes about as long as importing torch itself. So while
torchvision is imported, a stand-in is there for `torch._dynamo.utils`: the function in it imports
the real one when it is called, and so does whatever else is asked of the stand-in.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_COMPILER = "torch._dynamo.utils"


class _StandIn(ModuleType):
    def is_compile_supported(self, device_type: str) -> bool:
        """As the function of this name in the real module."""
        return bool(import_module(_COMPILER).is_compile_supported(device_type))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(_COMPILER) is self:
            del sys.modules[_COMPILER]
        return getattr(import_module(_COMPILER), name)


@contextlib.contextmanager
def _compiler_not_imported() -> Iterator[None]:
    if _COMPILER in sys.modules:
        yield
        return
    stand_in = sys.modules[_COMPILER] = _StandIn(_COMPILER)
    try:
        yield
    finally:
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]


with _compiler_not_imported():
    from torchvision import models as models


class Uninitialised(TorchFunctionMode):
    """While it is entered, networks are built without drawing weights, which are loaded next."""

    _DRAWS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Leave out what draws; do all else."""
        return args[0] if func in self._DRAWS else func(*args, **(kwargs or {}))
