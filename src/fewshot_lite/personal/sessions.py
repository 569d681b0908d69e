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
_MICRO_BATCH = 16


def open_session(model: bytes) -> Any:
    """onnxruntime's session of a model.

    Raises:
        Exception: of onnxruntime, whose errors have no base of their own: no model that it can run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised as well
    # Threads that wait by spinning take the cores from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(
    session: Any, outputs: Sequence[str] | None, pixels: npt.NDArray[np.uint8]
) -> list[npt.NDArray[np.float32]]:
    """Outputs of a network whose one input is "pixels", some images at a time.

    Args:
        session: as `open_session` gives it.
        outputs: names; None for all.
        pixels: (B, ...), B at least 1.

    Raises:
        Exception: of onnxruntime: it cannot be run.
    """
    batches = [pixels[i : i + _MICRO_BATCH] for i in range(0, len(pixels), _MICRO_BATCH)]
    parts = [session.run(outputs, {"pixels": batch}) for batch in batches]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]
