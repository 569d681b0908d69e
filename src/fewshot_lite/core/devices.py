"""Choose the device, the micro-batch and the precision to run in."""

from __future__ import annotations

import contextlib

import torch

from fewshot_lite.core.config import Precision
from fewshot_lite.core.errors import UsageError


def pick_device(name: str) -> torch.device:
    """Return the device of this name; "auto" prefers CUDA, then Apple's MPS, then the CPU.

    Raises:
        UsageError: unknown to torch, or not available.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # "meta" has no values to bring back
    except (RuntimeError, AssertionError, ImportError, NotImplementedError, TypeError):
        raise UsageError(f"--device {name}: not available here. Use auto or cpu.") from None
    return device


#: Memory of a forward pass with its graph, in bytes per input pixel: EfficientNet-B0 in float32
#: (`benchmarks/cost/lite_step.py`).
_BYTES_PER_PIXEL = 2048


def pick_micro_batch(device: torch.device, image_size: int) -> int:
    """Return the number of images per pass: 16 at 224 pixels on a CPU.

    On CUDA, as many as fit into a quarter of the free memory.
    """
    room, most = 1.6 * 2**30, 64
    if device.type == "cuda":
        room, most = torch.cuda.mem_get_info(device)[0] / 4, 512
    return min(most, max(1, int(room / (_BYTES_PER_PIXEL * image_size**2))))


def autocast(
    device: torch.device, precision: Precision, *, depthwise: bool
) -> contextlib.AbstractContextManager[None]:
    """Return the autocast context for networks (heads and statistics stay in float32).

    "auto" is bfloat16 where it is faster: on CUDA devices that support it, and on CPUs with
    bfloat16 matrix instructions unless the network has depthwise convolutions, which are slower.
    """
    if precision_of(device, precision, depthwise=depthwise) == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def precision_of(device: torch.device, precision: Precision, *, depthwise: bool) -> Precision:
    """Resolve "auto" as `autocast` does; return other precisions unchanged."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = device.type == "cpu" and cpu_has_bfloat16() and not depthwise
    return "bfloat16" if fast else "float32"


def cpu_has_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 matrices in hardware (AVX-512 BF16 or AMX)."""
    # No public query covers every supported version of torch.
    query = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(query is not None and query())
