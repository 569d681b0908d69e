"""How networks compute, besides their precision: compiled, and in TF32."""

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

#: The modules that torch.compile is made of.
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


def check_tf32(device: torch.device, wanted: bool | None) -> None:
    """Raise UsageError if something is wanted of a device that is not CUDA."""
    if wanted is not None and device.type != "cuda":
        flag = "--tf32" if wanted else "--no-tf32"
        raise UsageError(f"{flag}: for CUDA devices alone, and this run is on {device.type}.")


@contextlib.contextmanager
def tf32(device: torch.device, wanted: bool | None) -> Iterator[None]:
    """Within, convolutions in float32 round their factors to TF32 (10 bits), or do not.

    Torch's own setting, TF32 for convolutions, holds where nothing is wanted. Matrix products,
    which heads and their statistics are made of, are in full float32 either way.

    Raises:
        UsageError: as `check_tf32`.
    """
    check_tf32(device, wanted)
    if wanted is None:
        yield
        return
    cudnn: Any = torch.backends.cudnn
    convolutions = cudnn.conv
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "tf32" if wanted else "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


def compile_network(network: nn.Module, device: torch.device) -> None:
    """Have torch.compile make kernels of a network's passes; names of parameters stay.

    Raises:
        UsageError: it does not work here, e.g. for want of a compiler.
    """
    try:
        with _quiet_compiler():
            trial = torch.compile(nn.ReLU().to(device))
            trial(torch.zeros(8, device=device))
    except Exception as error:  # of many kinds: no compiler, no Triton, an unsupported system
        raise UsageError(
            f"--compile: torch.compile does not work on {device.type} here "
            f"({first_line(error)}). Install a C++ compiler, or leave --compile out."
        ) from None
    # Passes differ in size, and in whether they keep a graph: few kernels for all of them.
    network.compile(dynamic=True)


@contextlib.contextmanager
def compiling(wanted: bool) -> Iterator[None]:
    """While entered, networks of `compile_network` are run, which compiles them at their first use.

    What torch's compiler notes of itself is not shown, as nobody can act on it here; it is where
    `TORCH_LOGS` asks for it.

    Args:
        wanted: whether there are such networks.

    Raises:
        FewshotError: it fails on a network.
    """
    if not wanted:
        yield
        return
    try:
        with _quiet_compiler():
            yield
    except Exception as error:  # its errors have no base of their own
        if not type(error).__module__.startswith(_COMPILER):
            raise
        raise FewshotError(
            f"--compile: torch.compile fails on this network ({first_line(error)}). "
            "Leave --compile out."
        ) from None


@contextlib.contextmanager
def _quiet_compiler() -> Iterator[None]:
    """While entered, warnings and notes of torch's compiler are not shown; its errors are."""
    if os.environ.get("TORCH_LOGS"):
        yield
        return

    def shown(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or not record.name.startswith(_COMPILER)

    loggers = [logging.getLogger(name) for name in _torchs_loggers()]
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


def _torchs_loggers() -> list[str]:
    names = logging.Logger.manager.loggerDict
    return ["torch", *(name for name in names if name.startswith("torch."))]
