"""The cost of adapting and classifying: time, multiply-accumulates, memory."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fewshot_lite.evaluation.methods import Method

_Shape = Sequence[int]


@dataclass(frozen=True)
class Cost:
    """The cost of a task; None where it was not measured. Decoding is left out."""

    adapt_ms: float | None = None
    """Milliseconds to adapt to the support set, from images on the CPU."""
    query_ms: float | None = None
    """Milliseconds to classify one query image, averaged over batches."""
    bare_ms: float | None = None
    """Milliseconds of the backbone alone on one query image, in the same run."""
    adapt_macs: float | None = None
    query_macs: float | None = None
    """For one query image."""
    peak_memory: int | None = None
    """Bytes: resident (of the whole process), or allocated on a CUDA device."""


def typical_cost(costs: Sequence[Cost]) -> Cost:
    """Summarise the costs of a group's tasks: median times, mean counts, maximum memory.

    Counting takes time, so times of counted tasks are used only if there are no others; if the bare
    backbone was timed, all times are of those tasks.
    """
    timed = [cost for cost in costs if cost.bare_ms is not None]
    timed = timed or [cost for cost in costs if cost.adapt_macs is None] or list(costs)
    times = _averages(timed, median, "adapt_ms", "query_ms", "bare_ms")
    return mean_cost([replace(cost, **times) for cost in costs])


def mean_cost(costs: Sequence[Cost]) -> Cost:
    """Return the means of the costs, and the maximum memory."""
    means = _averages(costs, fmean, "adapt_ms", "query_ms", "bare_ms", "adapt_macs", "query_macs")
    peak = max((c.peak_memory for c in costs if c.peak_memory is not None), default=None)
    return Cost(**means, peak_memory=peak)


def _averages(
    costs: Sequence[Cost], average: Callable[[list[float]], float], *names: str
) -> dict[str, Any]:
    measured = {name: [v for c in costs if (v := getattr(c, name)) is not None] for name in names}
    return {name: average(values) if values else None for name, values in measured.items()}


class MacMeter(contextlib.ExitStack):
    """Count the multiply-accumulates of all matrix products and convolutions that run.

    Backward passes are counted as they run: two products for one of the forward pass if both
    operands have gradients, one if the weights are frozen. ORBIT's own counter (`ops_counter`)
    takes every backward pass to cost as much as the forward pass.

        with MacMeter() as meter:
            model(images)
        print(meter.macs)
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0.0
        """The total over all uses; one is two of torch's floating-point operations."""

    def __enter__(self) -> MacMeter:
        super().__enter__()
        # torch's counter does not know the fused attention of its "fast path".
        before = torch.backends.mha.get_fastpath_enabled()
        self.callback(torch.backends.mha.set_fastpath_enabled, before)
        torch.backends.mha.set_fastpath_enabled(False)
        counter = FlopCounterMode(display=False, custom_mapping=_ATTENTION_ON_CPU)
        self.callback(lambda: self._add(counter))
        self.enter_context(counter)
        return self

    def _add(self, counter: FlopCounterMode) -> None:
        self.macs += counter.get_total_flops() / 2


def _attention_flops(query: _Shape, key: _Shape, value: _Shape, *_: Any, **__: Any) -> int:
    """Count QKᵀ and its product with V, of shapes (B, heads, tokens, width)."""
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[2] * (width + value[3])


def _attention_backward_flops(_: _Shape, *shapes: _Shape, **__: Any) -> int:
    """Count QKᵀ again, and the gradients of V, of the weights, of Q and of K."""
    query, key, value = shapes[:3]
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[2] * (3 * width + 2 * value[3])


#: torch's flop counter knows the fused attention of CUDA devices only.
_ATTENTION_ON_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}


def measure(
    method: Method,
    support: Tensor,
    labels: Tensor,
    classes: int,
    queries: Iterable[Tensor],
    *,
    metered: bool = False,
    compared: bool = False,
) -> tuple[Tensor, Cost]:
    """Adapt to a task, classify its queries and measure the cost.

    Args:
        support: uint8 (N, 3, S, S) on the CPU, labels int64 (N,).
        queries: chunks of query images, uint8 (B, 3, S, S) on the CPU, one at a time in memory.
        metered: count multiply-accumulates, which takes time.
        compared: time the bare backbone on the queries, too.

    Returns:
        Logits (Q, K) on the CPU, and the cost.
    """
    device = method.device
    adapting, classifying = MacMeter(), MacMeter()
    adapt_time, query_time, bare_time = (_Stopwatch(device) for _ in range(3))
    logits = []
    with peak_memory(device) as peak:
        with adapting if metered else contextlib.nullcontext(), adapt_time:
            classifier = method.adapt(support.to(device), labels.to(device), classes)
        for chunk in queries:
            with classifying if metered else contextlib.nullcontext(), query_time:
                logits.append(classifier(chunk.to(device)).cpu())
            if compared:
                with bare_time:
                    method.bare(chunk.to(device)).cpu()
    number = sum(map(len, logits))
    return torch.cat(logits), Cost(
        adapt_ms=1000 * adapt_time.seconds,
        query_ms=1000 * query_time.seconds / number,
        bare_ms=1000 * bare_time.seconds / number if compared else None,
        adapt_macs=adapting.macs if metered else None,
        query_macs=classifying.macs / number if metered else None,
        peak_memory=peak(),
    )


class _Stopwatch:
    """The total seconds of its uses, waiting for the device to finish."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds = 0.0

    def __enter__(self) -> _Stopwatch:
        self._wait()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self._wait()
        self.seconds += time.perf_counter() - self._start

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()


@contextlib.contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int]]:
    """Yield a function that returns the peak memory since then: see `Cost.peak_memory`.

    Without Linux's /proc it is the peak since the process started.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: int(torch.cuda.max_memory_allocated(device))
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the present size
    yield peak_resident


def peak_resident() -> int:
    """Return the peak resident memory in bytes since the process started or the peak was reset."""
    with contextlib.suppress(OSError, StopIteration, ValueError, IndexError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    import resource  # not on every system

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
