"""What adapting and classifying cost: time, multiply-accumulates, memory."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from fewshot_lite.evaluation.methods import Method


@dataclass(frozen=True)
class Cost:
    """What a task cost. Images are decoded already, and lie on the CPU."""

    adapt_ms: float
    """To adapt to the support set."""
    query_ms: float
    """To classify one query image, of as many as were classified at a time."""
    bare_ms: float | None
    """The backbone alone on one query image, in the same run."""
    adapt_macs: float | None
    query_macs: float | None
    """Of one query image."""
    peak_memory: int
    """Bytes: resident (of the whole process), or allocated on a CUDA device."""


class MacMeter(TorchDispatchMode):
    """Multiply-accumulates of the matrix products and convolutions that really run.

    As the papers count (ORBIT's ops_counter: a factor of 2 "counts forward + backward pass"): a
    pass forward counts once, one that is also back-propagated counts twice; what the backward pass
    itself does is not looked at.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0.0
        self._stack = contextlib.ExitStack()
        self._transforms = _Transforms()

    def __enter__(self) -> MacMeter:
        # The fused attention of torch's "fast path" is one operation that nobody counts.
        before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        self._stack.callback(torch.backends.mha.set_fastpath_enabled, before)
        self._stack.enter_context(self._transforms)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._stack.close()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        count = flop_registry.get(func._overloadpacket)
        in_backward = torch._C._current_graph_task_id() != -1
        if count is not None and not in_backward:
            factor = 2 if torch.is_grad_enabled() or self._transforms.differentiating else 1
            # A multiply-accumulate is two of torch's floating-point operations.
            self.macs += factor * count(*args, **kwargs, out_val=result) / 2
        return result


class _Transforms(TorchFunctionMode):
    """Whether torch.func differentiates what runs.

    It does so whatever grad mode is outside, and what it hands down to the operations themselves
    shows no sign of it. The calls above them see it.
    """

    differentiating = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        before, stack = self.differentiating, get_interpreter_stack() or ()
        self.differentiating = any(layer.key() == TransformType.Grad for layer in stack)
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.differentiating = before


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
    """Adapt and classify in full, and say what it cost.

    Args:
        support: uint8 (N, 3, S, S) on the CPU, labels int64 (N,).
        queries: chunks of query images, uint8 (B, 3, S, S) on the CPU, one at a time in memory.
        metered: count the multiply-accumulates too, at some cost in time.
        compared: time the bare backbone on the queries too.

    Returns:
        Logits (Q, K) on the CPU, and the cost.
    """
    device = method.passes.device
    adapting, classifying = MacMeter(), MacMeter()
    adapt_time, query_time, bare_time = (_Stopwatch(device) for _ in range(3))
    logits = []
    with peak_memory(device) as peak:
        with _entered(adapting, metered), adapt_time:
            classifier = method.adapt(support.to(device), labels.to(device), classes)
        for chunk in queries:
            with _entered(classifying, metered), query_time:
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


def _entered(meter: MacMeter, wanted: bool) -> contextlib.AbstractContextManager[object]:
    return meter if wanted else contextlib.nullcontext()


class _Stopwatch:
    """Seconds over all its uses, with what was begun on a CUDA device waited for."""

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
    """Yields a function that tells the most bytes in use since: see `Cost.peak_memory`.

    Without Linux's /proc the process's peak since its start is all there is to know.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: int(torch.cuda.max_memory_allocated(device))
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident now
    yield _peak_resident


def _peak_resident() -> int:
    with contextlib.suppress(OSError, StopIteration, ValueError, IndexError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    import resource  # not on every system

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
