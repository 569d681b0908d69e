"""Run ONNX models by onnxruntime on the CPU."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# Must be set before onnxruntime is imported, which would report its use over the network.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

#: Images per pass.
_MICRO_BATCH = 8


@dataclass(frozen=True)
class Bounds:
    """Resource limits of an untrusted model, whose graph can be any program."""

    memory: int
    """Bytes it may allocate."""
    seconds: float
    """Time limit of one pass."""

    @classmethod
    def of(cls, model: bytes) -> Bounds:
        """Return limits far above the needs of networks with as many weights."""
        return cls(1_500_000_000 + 50 * len(model), 60 + len(model) / 1e6)


def open_session(model: bytes, bounds: Bounds | None = None) -> Any:
    """Open an onnxruntime session of a model.

    Args:
        model: the file's bytes.
        bounds: memory limit for an untrusted model; None for one written by this program.

    Raises:
        Exception: onnxruntime cannot run the model; its errors have no common base class.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # errors are raised as well
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = _threads()
    # Spinning threads would take the cores from those that decode photos.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if bounds is not None:  # only the process's allocator can have a limit, not a session's
        onnxruntime.create_and_register_allocator(
            onnxruntime.OrtMemoryInfo(
                "Cpu",
                onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
                0,
                onnxruntime.OrtMemType.DEFAULT,
            ),
            onnxruntime.OrtArenaCfg({"max_mem": bounds.memory, "arena_extend_strategy": 1}),
        )
        options.add_session_config_entry("session.use_env_allocators", "1")
    return onnxruntime.InferenceSession(
        model,
        options,
        providers=["CPUExecutionProvider"],
        enable_fallback=0,  # the fallback would print to stdout and retry the same provider
    )


def run_session(
    session: Any,
    outputs: Sequence[str] | None,
    images: npt.NDArray[Any],
    bounds: Bounds | None = None,
) -> list[npt.NDArray[np.float32]]:
    """Run a network with one input on micro-batches and return its outputs.

    Args:
        session: from `open_session`.
        outputs: names of the outputs; None for all.
        images: (B, ...), B at least 1.
        bounds: time limit for an untrusted model; None for one written by this program.

    Raises:
        Exception: onnxruntime cannot run the model.
    """
    name = session.get_inputs()[0].name
    parts = []
    for start in range(0, len(images), _MICRO_BATCH):
        with _time_limit(bounds) as options:
            batch = images[start : start + _MICRO_BATCH]
            parts.append(session.run(outputs, {name: batch}, options))
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


@contextlib.contextmanager
def _time_limit(bounds: Bounds | None) -> Iterator[Any]:
    """Yield run options that terminate the run when its time is up."""
    if bounds is None:
        yield None
        return
    import onnxruntime

    options = onnxruntime.RunOptions()
    timer = threading.Timer(bounds.seconds, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()


def _threads() -> int:
    """Return OMP_NUM_THREADS, which torch respects too; if unset 0, one thread per core."""
    number = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(number) if number.isdecimal() else 0
