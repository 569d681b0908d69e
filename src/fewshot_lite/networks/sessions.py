"""Networks run by onnxruntime, on the CPU."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# Before onnxruntime is imported, by whomever: it would report its use over the network.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

#: Images that go through a network at a time.
_MICRO_BATCH = 8


@dataclass(frozen=True)
class Bounds:
    """What a model may cost that somebody else may have written: its graph can be any program."""

    memory: int
    """Bytes, beyond which it fails."""
    seconds: float
    """Seconds of one pass of some images, after which it is ended."""

    @classmethod
    def of(cls, model: bytes) -> Bounds:
        """Far more than networks with as many weights need."""
        return cls(1_500_000_000 + 50 * len(model), 60 + len(model) / 1e6)


def open_session(model: bytes, bounds: Bounds | None = None) -> Any:
    """onnxruntime's session of a model.

    Args:
        model: the file's bytes.
        bounds: of its memory; None where this program wrote it.

    Raises:
        Exception: of onnxruntime, whose errors have no base of their own: no model that it can run.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # what is wrong is raised as well
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = _threads()
    # Threads that wait by spinning take the cores from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if bounds is not None:  # an allocator of the process can have a limit, and one of a session not
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
        enable_fallback=0,  # it would print to stdout, and try the same again
    )


def run_session(
    session: Any,
    outputs: Sequence[str] | None,
    images: npt.NDArray[Any],
    bounds: Bounds | None = None,
) -> list[npt.NDArray[np.float32]]:
    """Outputs of a network of one input, some images at a time.

    Args:
        session: as `open_session` gives it.
        outputs: names; None for all.
        images: (B, ...), B at least 1.
        bounds: of its time; None where this program wrote it.

    Raises:
        Exception: of onnxruntime: it cannot be run.
    """
    name = session.get_inputs()[0].name
    batches = [images[i : i + _MICRO_BATCH] for i in range(0, len(images), _MICRO_BATCH)]
    parts = []
    for batch in batches:
        with _ended_after(bounds) as options:
            parts.append(session.run(outputs, {name: batch}, options))
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


@contextlib.contextmanager
def _ended_after(bounds: Bounds | None) -> Iterator[Any]:
    """Options of a run that is told to end when its time is over."""
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
    """As many as OMP_NUM_THREADS says, which torch heeds too; 0, one a core, if it says nothing."""
    words = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(words) if words.isdecimal() else 0
