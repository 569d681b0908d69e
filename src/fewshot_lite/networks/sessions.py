"""Networks run by onnxruntime, on the CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# Before onnxruntime is imported, by whomever: it would report its use over the network.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

#: Images that go through a network at a time.
_MICRO_BATCH = 8


def open_session(model: bytes) -> Any:
    """onnxruntime's session of a model.

    Raises:
        Exception: of onnxruntime, whose errors have no base of their own: no model that it can run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised as well
    options.intra_op_num_threads = _threads()
    # Threads that wait by spinning take the cores from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        model,
        options,
        providers=["CPUExecutionProvider"],
        enable_fallback=0,  # it would print to stdout, and try the same again
    )


def run_session(
    session: Any, outputs: Sequence[str] | None, images: npt.NDArray[Any]
) -> list[npt.NDArray[np.float32]]:
    """Outputs of a network of one input, some images at a time.

    Args:
        session: as `open_session` gives it.
        outputs: names; None for all.
        images: (B, ...), B at least 1.

    Raises:
        Exception: of onnxruntime: it cannot be run.
    """
    name = session.get_inputs()[0].name
    batches = [images[i : i + _MICRO_BATCH] for i in range(0, len(images), _MICRO_BATCH)]
    parts = [session.run(outputs, {name: batch}) for batch in batches]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _threads() -> int:
    """As many as OMP_NUM_THREADS says, which torch heeds too; 0, one a core, if it says nothing."""
    words = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(words) if words.isdecimal() else 0
