"""A personal model exported to ONNX, run by onnxruntime; this does not import torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fewshot_lite.core import jsons
from fewshot_lite.core.checksums import CHECKSUM, UNKNOWN, digits, is_whole, place_at_end
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.files import READING, as_path, check_file, failing_as
from fewshot_lite.networks.sessions import Bounds, open_session, run_session
from fewshot_lite.personal.classifier import Answers, PhotoClassifier
from fewshot_lite.personal.prediction import check_reject
from fewshot_lite.personal.views import Pixels

#: The largest ONNX file: it is one protobuf message.
_MOST_BYTES = 2**31
#: The key of the description, JSON, in the file's metadata.
METADATA_KEY = "fewshot_lite"
#: Thresholds are stored for `reject` = 1/1000, 2/1000 ... 999/1000.
THRESHOLD_STEPS = 1000


class ExportedModel(PhotoClassifier):
    """A personal model read from an exported file; it gives the same answers."""

    def __init__(self, session: Any, description: dict[str, Any], bounds: Bounds) -> None:
        """Assemble from parts; use `ExportedModel.load`.

        Args:
            session: onnxruntime's session, with the inputs and outputs of `personal.export`.
            description: the file's description.
            bounds: limits of memory and time for a run.
        """
        self._bounds = bounds
        self._session = session
        self.about = description
        self.class_names: tuple[str, ...] = tuple(description["class_names"])
        self.image_size: int = description["image_size"]
        self.provenance: dict[str, Any] = description["provenance"]
        self.source_sha256: str | None = description["source"].get("sha256")
        """Hash of the file that it was exported from."""
        # The first is that of `reject` = 0; above 999/1000 the last one holds.
        self._thresholds = [
            math.inf,
            *(math.inf if t is None else t for t in description["thresholds"]),
        ]

    @classmethod
    def load(cls, path: str | Path, *, flag: str = "--model") -> ExportedModel:
        """Read an exported model.

        Args:
            path: a file written by `export`.
            flag: the flag that named it, for messages.

        Raises:
            UsageError: no such file.
            FewshotError: a damaged file, or an ONNX file of another kind.
        """
        path = as_path(path, "path")
        where = f"{flag} {path}".strip()
        check_file(path, where)
        with failing_as(where, READING):
            if path.stat().st_size > _MOST_BYTES:
                raise FewshotError(f"{where}: larger than 2 GB, as no ONNX file is. Give another.")
            data = path.read_bytes()
        try:
            bounds = Bounds.of(data)
            session = open_session(data, bounds)
            entry = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        except Exception:  # onnxruntime's errors have no base of their own
            raise FewshotError(f"{where}: damaged, or not an ONNX file. Export it anew.") from None
        if entry is None:
            raise FewshotError(
                f"{where}: an ONNX file, but not one of fewshot-lite's. Give one that `export` "
                "wrote."
            )
        try:
            description = jsons.loads(entry)
            whole = _is_whole(description, data)
            _check(description, session)
            model = cls(session, description, bounds)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise FewshotError(f"{where}: its description is damaged. Export it anew.") from None
        if not whole:
            raise FewshotError(f"{where}: damaged, its checksum is wrong. Export it anew.")
        return model

    def outputs(self, pixels: Pixels) -> Answers:
        """Return probabilities (B, K) and novelty scores (B,) of RGB images, uint8 (B, S, S, 3).

        Raises:
            FewshotError: the network fails on them.
        """
        try:
            probabilities, scores = run_session(
                self._session, ["probabilities", "strangeness"], pixels, self._bounds
            )
        except Exception:  # onnxruntime's errors have no base of their own
            raise FewshotError(
                "The exported model cannot be run: it is damaged, or takes more memory or time "
                "than it should. Export it anew."
            ) from None
        return probabilities, scores

    def threshold(self, reject: float) -> float:
        """Return the threshold of `novelty_threshold`, interpolated between whole thousandths.

        Raises:
            UsageError: `reject` is not from 0 to below 1.
        """
        check_reject(reject)
        place = min(reject * THRESHOLD_STEPS, len(self._thresholds) - 1)
        below = round(place) if math.isclose(place, round(place)) else math.floor(place)
        low = self._thresholds[below]
        if place <= below or math.isinf(low):
            return low
        return low + (place - below) * (self._thresholds[below + 1] - low)

    def answers_of(self, pixels: Pixels) -> Answers:
        return self.outputs(pixels.transpose(0, 2, 3, 1))


def with_checksum(
    graph: bytes, description: dict[str, Any], tail_of: Callable[[str], bytes]
) -> bytes:
    """Return the bytes of a file: a graph, and its description with the checksum of the file.

    Args:
        tail_of: makes the bytes that follow the graph from the JSON of the description.
    """
    data = graph + tail_of(json.dumps({CHECKSUM: UNKNOWN, **description}))
    place = place_at_end(data)
    assert place is not None
    right = digits(np.frombuffer(data, np.uint8), place)
    return data[:place] + right + data[place + len(right) :]


def _is_whole(description: dict[str, Any], data: bytes) -> bool:
    """Whether the checksum, which is removed from the description, is right; 0.1.0 wrote none."""
    expected = description.pop(CHECKSUM, None)
    return expected is None or is_whole(np.frombuffer(data, np.uint8), place_at_end(data))


def _check(description: dict[str, Any], session: Any) -> None:
    """Raise ValueError, KeyError or TypeError if description and network do not fit."""
    keys = "image_size", "class_names", "thresholds"
    size, names, thresholds = (description[key] for key in keys)
    shapes = {p.name: p.shape for p in (*session.get_inputs(), *session.get_outputs())}
    whole = (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and len(thresholds) == THRESHOLD_STEPS - 1
        and all(t is None or isinstance(t, float) for t in thresholds)
        and isinstance(description["provenance"], dict)
        and shapes["pixels"][1:] == [size, size, 3]
        and shapes["probabilities"][1:] == [len(names)]
        and len(shapes["strangeness"]) == 1
    )
    if not whole:
        raise ValueError
