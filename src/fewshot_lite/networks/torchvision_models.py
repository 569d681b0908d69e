"""Import torchvision's networks without importing torch's compiler.

`torchvision.ops.roi_align`, which only detectors use, imports a function of torch._dynamo, which
takes about as long as importing torch itself. So while torchvision is imported, a stand-in replaces
`torch._dynamo.utils`; it imports the real module when the function is called or any other attribute
is used.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo.utils"


class _StandIn(ModuleType):
    def is_compile_supported(self, device_type: str) -> bool:
        """Call the function of this name in the real module."""
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
