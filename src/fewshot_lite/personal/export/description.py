"""The description within an export: JSON, in the one metadata entry "fewshot_lite"."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from fewshot_lite import __version__
from fewshot_lite.core.files import sha256
from fewshot_lite.personal.exported_model import METADATA_KEY, THRESHOLD_STEPS
from fewshot_lite.personal.personal_model import PersonalModel

__all__ = ["METADATA_KEY", "describe_export"]

#: The share of one's own photos that `threshold` rejects.
_REJECT = 0.05


def describe_export(personal: PersonalModel, source: Path | None) -> dict[str, Any]:
    """All that one needs to make use of the outputs, and where they are from.

    "threshold" rejects 5 % of one's own photos, "thresholds" are those for 0.1, 0.2 ... 99.9 %;
    None where no photo is rejected.
    """
    size, names = personal.image_size, list(personal.class_names)
    return {
        "format": 1,
        "kind": "exported",
        "version": __version__,
        "class_names": names,
        "shots": personal.labels.bincount(minlength=len(names)).tolist(),
        "image_size": size,
        "inputs": {"pixels": ["uint8 RGB, 0 to 255", ["batch", size, size, 3]]},
        "outputs": {
            "probabilities": ["float32", ["batch", len(names)]],
            "strangeness": ["float32", ["batch"]],
        },
        "privacy": "Set ORT_DISABLE_TELEMETRY=1, or importing onnxruntime reports its use.",
        "threshold": _finite(personal.novelty.threshold(_REJECT)),
        "thresholds": [
            _finite(personal.novelty.threshold(step / THRESHOLD_STEPS))
            for step in range(1, THRESHOLD_STEPS)
        ],
        "backbone": personal.backbone.name,
        "provenance": personal.provenance,
        "source": {"name": source.name, "sha256": sha256(source)} if source else {},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
