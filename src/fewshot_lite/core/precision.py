"""Optional speed-ups of networks: torch.compile, and TF32 convolutions on CUDA."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fewshot_lite.core.errors import FewshotError, UsageError, first_line

#: The modules that make up torch.compile.
_COMPILER = (
    "torch._dynamo",
    "torch._functorch",
    "torch._inductor",
    "torch._higher_order_ops",
    "torch._subclasses",
    "torch.fx",
    "torch.utils.cpp_extension",
    "torch.utils._sympy",
    "triton",
)


def check_tf32(device: torch.device, enabled: bool | None) -> None:
    """Raise UsageError if TF32 is set either way for a device that is not CUDA."""
    if enabled is not None and device.type != "cuda":
        flag = "--tf32" if enabled else "--no-tf32"
        raise UsageError(f"{flag}: for CUDA devices alone, and this run is on {device.type}.")


@contextlib.contextmanager
def tf32(device: torch.device, enabled: bool | None) -> Iterator[None]:
    """Context in which float32 convolutions use TF32 (10-bit mantissas), or do not.

    None keeps torch's default, TF32 for convolutions. Matrix products, which heads and their
    statistics consist of, always use full float32.

    Raises:
        UsageError: as `check_tf32`.
    """
    check_tf32(device, enabled)
    if enabled is None:
        yield
        return
    cudnn: Any = torch.backends.cudnn
    convolutions = cudnn.conv
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "tf32" if enabled else "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


def compile_network(network: nn.Module, device: torch.device) -> None:
    """Compile a network with torch.compile, in place; parameter names do not change.

    Raises:
        UsageError: torch.compile does not work here, e.g. as there is no C++ compiler.
    """
    try:
        with _quiet_compiler():
            trial = torch.compile(nn.ReLU().to(device))
            trial(torch.zeros(8, device=device))
    except Exception as error:  # no compiler, no Triton, an unsupported system: many types
        raise UsageError(
            f"--compile: torch.compile does not work on {device.type} here "
            f"({first_line(error)}). Install a C++ compiler, or leave --compile out."
        ) from None
    # Passes differ in batch size and in whether they keep a graph: share kernels among them.
    network.compile(dynamic=True)


@contextlib.contextmanager
def compiling(enabled: bool) -> Iterator[None]:
    """Context to run networks of `compile_network` in, which are compiled at their first use.

    The compiler's warnings and notes are hidden, unless `TORCH_LOGS` is set.

    Raises:
        FewshotError: compiling a network fails.
    """
    if not enabled:
        yield
        return
    try:
        with _quiet_compiler():
            yield
    except Exception as error:  # the compiler's errors have no common base class
        if not type(error).__module__.startswith(_COMPILER):
            raise
        raise FewshotError(
            f"--compile: torch.compile fails on this network ({first_line(error)}). "
            "Leave --compile out."
        ) from None


@contextlib.contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Context that hides the warnings and notes of torch's compiler, but not its errors."""
    if os.environ.get("TORCH_LOGS"):
        yield
        return

    def shown(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or not record.name.startswith(_COMPILER)

    names = [name for name in logging.Logger.manager.loggerDict if name.startswith("torch.")]
    loggers = [logging.getLogger(name) for name in ("torch", *names)]
    handlers = {id(handler): handler for logger in loggers for handler in logger.handlers}
    for handler in handlers.values():
        handler.addFilter(shown)
    try:
        with warnings.catch_warnings():
            modules = "|".join(map(re.escape, _COMPILER))
            warnings.filterwarnings("ignore", module=rf"({modules})(\.|$)")
            yield
    finally:
        for handler in handlers.values():
            handler.removeFilter(shown)
