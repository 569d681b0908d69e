"""Weights and activations of eight bits beside float32: time a photo, and answers that change.

    python -m benchmarks.cost.eight_bits FOLDER

Of each class of the folder five photos are adapted to, on which onnxruntime's static quantisation
is calibrated as well; the others are classified. Needs the extra `onnx`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.common import arguments, emit
from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.networks.lite_graph import lite_graph
from fewshot_lite.networks.sessions import open_session, run_session
from fewshot_lite.personal.loading import load
from fewshot_lite.personal.torch_free_model import TorchFreeModel

SHOTS = 5


def main() -> None:
    args = arguments(__doc__, "folder", repeats=5)
    folder = scan_classes(args.folder)
    own, others, names = [], [], []
    for k, name in enumerate(folder.class_names):
        mine = [p for p, of in zip(folder.paths, folder.labels, strict=True) if of == k]
        own += mine[:SHOTS]
        names += [name] * len(mine[:SHOTS])
        others += mine[SHOTS:]
    base = load()
    personal = base.adapt(own, names)
    support, photos = (decode_pixels(paths, personal.image_size)[0] for paths in (own, others))
    with tempfile.TemporaryDirectory() as home:
        model = TorchFreeModel.load(personal.save(Path(home) / "personal.safetensors"))
        assert model is not None
        backbone = personal.backbone
        weights = {k: v.numpy() for k, v in backbone.network.state_dict().items()}
        mean, std = (values.flatten().tolist() for values in (backbone.mean, backbone.std))
        graph = lite_graph(backbone.name, personal.image_size, mean, std, weights)
        sessions = {"float32": open_session(graph), "int8": quantised(graph, support, Path(home))}
    features = {name: run_session(s, None, photos)[0] for name, s in sessions.items()}
    answers = {name: model._logits(found).argmax(1) for name, found in features.items()}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(args.repeats):
        for name, session in sessions.items():
            start = time.process_time()
            run_session(session, None, photos[:64])
            times[name].append((time.process_time() - start) / len(photos[:64]))
    each = {name: 1000 * median(values) for name, values in times.items()}
    error = np.linalg.norm(features["int8"] - features["float32"])
    found = {
        "processor_ms_a_photo": {name: round(value, 2) for name, value in each.items()},
        "time_of_float32": round(each["int8"] / each["float32"], 3),
        "photos": len(photos),
        "answers_changed": round(float((answers["int8"] != answers["float32"]).mean()), 4),
        "error_of_features": round(float(error / np.linalg.norm(features["float32"])), 4),
    }
    emit("eight_bits", vars(args), found)


def quantised(graph: bytes, pixels: npt.NDArray[np.uint8], home: Path) -> Any:
    """The session of a graph with convolutions and sums in eight bits."""
    plain, ready, output = (home / f"{name}.onnx" for name in ("plain", "ready", "int8"))
    plain.write_bytes(graph)
    quant_pre_process(plain, ready, skip_symbolic_shape=True)

    class Photos(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rest = iter(np.array_split(pixels, 5))

        def get_next(self) -> dict[str, Any] | None:
            part = next(self._rest, None)
            return None if part is None else {"pixels": part}

    quantize: Callable[..., None] = quantization.quantize_static
    quantize(
        ready,
        output,
        Photos(),
        per_channel=True,
        reduce_range=True,  # products of eight bits overflow without the newest instructions
        op_types_to_quantize=["Conv", "Add", "GlobalAveragePool"],
    )
    return open_session(output.read_bytes())


if __name__ == "__main__":
    main()
