"""Eight-bit weights and activations in an exported network, and what they change.

Convolutions are quantised after training, by onnxruntime's static quantisation: each channel of the
weights by its largest value, activations by the range that they take on photos (Jacob et al. 2018,
"Quantization and training of neural networks for efficient integer-arithmetic-only inference").
Two things matter to EfficientNet-Lite. What ReLU6 cuts off is no part of a range: with ranges from
before it a fifth of the answers change. And the first convolutions, whose weights range most
widely, stay as they are. Weights take seven of the eight bits, as sums of products can overflow on
processors without VNNI. The head stays in single precision. What answers and time become is
measured by `benchmarks/accuracy/eight_bits.py`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.personal.cross_adaptation import deal
from fewshot_lite.personal.personal_model import PersonalModel

#: One convolution in so many, from the images up, is left as it is.
_KEPT = 8
#: A network of fewer convolutions spends its time elsewhere.
_FEWEST = 4
#: Photos of a folder that are read, at most, and those of them by which ranges are found.
_MOST_READ, _MOST = 512, 128
#: Photos that go through the network at a time.
_BATCH = 8
#: The share of answers that may change, and of right ones that may be lost, ...
_MAY_CHANGE, _MAY_LOSE = 0.15, 0.05
#: ... where they are more photos than this.
_CHANCE = 3


@dataclass(frozen=True)
class Agreement:
    """What eight bits change, on labelled photos that the head did not learn from."""

    photos: int
    """Photos that were named by the others, a quarter of them at a time."""
    changed: int
    """Photos of those that are named otherwise."""
    accuracy: float
    """Share of them that are named right by the network in single precision, ..."""
    accuracy_in_eight_bits: float
    """... and in eight bits."""
    error: float
    """Norm of the difference of all features, as a share of theirs."""


@dataclass(frozen=True)
class LabelledPhotos:
    """Photos of a folder that could be read."""

    pixels: npt.NDArray[np.uint8]
    """(N, 3, S, S)."""
    labels: npt.NDArray[np.int64]
    """(N,) of 0..K-1, K being the folder's classes."""

    @classmethod
    def read(cls, folder: Path, size: int) -> LabelledPhotos:
        """Read a folder of class folders at a side of `size` pixels, or evenly spaced ones of many.

        Raises:
            UsageError, FewshotError: there is none, or no class in it has two photos.
        """
        found = scan_classes(folder)
        chosen = _evenly(len(found.paths), _MOST_READ)
        pixels, problems = decode_pixels([found.paths[row] for row in chosen], size)
        good = [place for place in range(len(pixels)) if place not in problems]
        _, labels = np.unique(np.array(found.labels)[chosen[good]], return_inverse=True)
        if not good or np.bincount(labels).max() < 2:
            raise UsageError(
                f"--int8 {folder}: has no class of two photos that can be read, and answers are "
                "compared on photos that others name. Give the folder that the model is adapted to."
            )
        return cls(pixels[good], labels.astype(np.int64))

    def some(self) -> npt.NDArray[np.uint8]:
        """Evenly spaced ones, (B, S, S, 3), to find ranges by."""
        chosen = self.pixels[_evenly(len(self.pixels), _MOST)]
        return np.ascontiguousarray(chosen.transpose(0, 2, 3, 1))


def _evenly(number: int, most: int) -> npt.NDArray[np.int64]:
    """Evenly spaced places among `number`, in order: `most` of them, or all."""
    return np.linspace(0, number - 1, min(number, most)).round().astype(np.int64)


def quantised(network: Any, pixels: npt.NDArray[np.uint8]) -> Any:
    """A network with convolutions in eight bits.

    Args:
        network: ONNX's ModelProto, of an input "pixels".
        pixels: uint8 (B, S, S, 3), by which the ranges of activations are found.

    Raises:
        UsageError: it has too few convolutions.
        Exception: of onnxruntime, whose errors have no base of their own.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="fewshot-lite-") as home:
        plain, ready, output = (Path(home) / f"{name}.onnx" for name in ("plain", "ready", "int8"))
        onnx.save(network, plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)  # joins norms and convolutions
        prepared = onnx.load(ready)
        for number, node in enumerate(prepared.graph.node):  # they are told apart by their names
            node.name = f"{node.op_type} {number}"
        onnx.save(prepared, ready)
        quantization.quantize_static(
            ready,
            output,
            _reader(pixels),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["Conv", "Clip", "Relu", "Add"],
            nodes_to_quantize=_to_quantise(prepared.graph),
        )
        found = onnx.load(output)
    del found.metadata_props[:]  # how it was made
    return found


def _reader(pixels: npt.NDArray[np.uint8]) -> Any:
    """Photos as onnxruntime's calibration takes them."""
    from onnxruntime import quantization

    class Photos(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rest = (pixels[i : i + _BATCH] for i in range(0, len(pixels), _BATCH))

        def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
            part = next(self._rest, None)
            return None if part is None else {"pixels": part}

    return Photos()


def _to_quantise(graph: Any) -> list[str]:
    """Names of the convolutions but for the first ones, and of the sums and ReLUs among them.

    Raises:
        UsageError: there are too few convolutions.
    """
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    if len(convolutions) < _FEWEST:
        raise UsageError(
            f"--int8: is for convolutional networks, and this one has {len(convolutions)} "
            "convolutions. Export it without."
        )
    chosen = convolutions[len(convolutions) // _KEPT :]
    after = {node.output[0] for node in chosen}
    names = {node.name for node in chosen}
    for node in graph.node:  # in the order of their computation
        if node.op_type in ("Clip", "Relu", "Add") and after & set(node.input):
            names.add(node.name)
            after.add(node.output[0])
    return sorted(names)


def compare(
    model: PersonalModel, photos: LabelledPhotos, features: npt.NDArray[np.float32]
) -> Agreement:
    """Name each fold of the photos by the others' features in single precision, in both ways.

    Args:
        features: float32 (N, d) of the photos, in eight bits.

    Raises:
        FewshotError: too many answers change, or too many right ones are lost.
    """
    own, labels = model.features_of(photos.pixels), photos.labels
    classes = int(labels.max()) + 1
    place = deal(torch.from_numpy(labels), classes).numpy()
    answers = np.zeros((2, len(labels)), np.int64)
    for fold in set(place[place >= 0].tolist()):
        out = place == fold
        logits = model.array_head.fit((own[~out], labels[~out], classes))
        answers[:, out] = [logits(own[out]).argmax(1), logits(features[out]).argmax(1)]
    known = place >= 0
    before, after = answers[:, known]
    right = (answers == labels)[:, known]
    count, changed = int(known.sum()), int((before != after).sum())
    lost = int(right[0].sum()) - int(right[1].sum())
    error = float(np.linalg.norm(features - own) / np.linalg.norm(own))
    if max(changed - _MAY_CHANGE * count, lost - _MAY_LOSE * count) > 0 and changed > _CHANCE:
        raise FewshotError(
            f"--int8: in eight bits {changed} of {count} photos are named otherwise, and {lost} "
            "fewer right. Nothing was written. Export it without."
        )
    return Agreement(count, changed, float(right[0].mean()), float(right[1].mean()), error)
