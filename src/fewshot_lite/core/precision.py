"""How networks compute, besides their precision: compiled, and in TF32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fewshot_lite.core.errors import UsageError, first_line


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
        trial = torch.compile(nn.ReLU().to(device))
        trial(torch.zeros(8, device=device))
    except Exception as error:  # of many kinds: no compiler, no Triton, an unsupported system
        raise UsageError(
            f"--compile: torch.compile does not work on {device.type} here "
            f"({first_line(error)}). Install a C++ compiler, or leave --compile out."
        ) from None
    # Passes differ in size, and in whether they keep a graph: few kernels for all of them.
    network.compile(dynamic=True)
