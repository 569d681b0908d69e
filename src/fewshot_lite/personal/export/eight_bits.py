"""Quantise an exported network to eight bits, and measure what that changes.

Convolutions are quantised after training, by onnxruntime's static quantisation: each channel of the
weights by its largest value, activations by their range on photos (Jacob et al. 2018,
"Quantization and training of neural networks for efficient integer-arithmetic-only inference").
Two things matter to EfficientNet-Lite. Ranges are those after ReLU6: with those before it a fifth
of the answers change. And the first convolutions, whose weights range most widely, are not
quantised. Weights take seven of the eight bits, as sums of products can overflow on processors
without VNNI. The head stays in single precision. docs/benchmarks.md has figures of accuracy and
time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.text import some_of
from fewshot_lite.images.clips import with_frames
from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.images.finding import find_labelled
from fewshot_lite.personal.bulk.sorting import class_of_folder
from fewshot_lite.personal.cross_adaptation import deal
from fewshot_lite.personal.personal_model import PersonalModel

#: The first 1/8 of the convolutions are not quantised.
_KEPT = 8
#: The fewest convolutions that a network must have: with fewer it spends its time elsewhere.
_FEWEST = 4
#: The most photos of a folder that are read, and that are used for the ranges.
_MOST_READ, _MOST_RANGES = 512, 128
#: Photos in a batch.
_BATCH = 8
#: The largest share of answers that may change, and of right answers that may be lost, ...
_MAY_CHANGE, _MAY_LOSE = 0.15, 0.05
#: ... if more photos than this change.
_CHANCE = 3


@dataclass(frozen=True)
class Agreement:
    """The agreement of eight bits with single precision, by cross-validation on labelled photos."""

    photos: int
    """Photos that were left out, a quarter of them at a time."""
    changed: int
    """Photos of those whose answer changes."""
    accuracy: float
    """Accuracy on them in single precision, ..."""
    accuracy_in_eight_bits: float
    """... and in eight bits."""
    error: float
    """Norm of the difference of the features, relative to the norm of the features."""


@dataclass(frozen=True)
class LabelledPhotos:
    """Photos of a folder that could be read, and frames of its videos."""

    pixels: npt.NDArray[np.uint8]
    """(N, 3, S, S)."""
    labels: npt.NDArray[np.int64]
    """(N,) of 0..K-1, K being the folder's classes."""
    missing: tuple[str, ...] = ()
    """The model's classes of which the folder has no photo that can be read."""

    @classmethod
    def read(cls, folder: Path, size: int, class_names: Sequence[str]) -> LabelledPhotos:
        """Read photos at `size` pixels; evenly spaced ones if there are many.

        Args:
            folder: of class folders, or a ZIP archive of such.
            size: side of the images.
            class_names: the model's.

        Raises:
            UsageError, FewshotError: no such folder, it has no photo of the model's classes, or no
                class in it has two photos.
        """
        images = find_labelled(folder)
        images = with_frames(images, size, None)
        chosen = _evenly(len(images.paths), _MOST_READ)
        pixels, problems = decode_pixels([images.paths[row] for row in chosen], size)
        good = [place for place in range(len(pixels)) if place not in problems]
        left = np.delete(np.array(images.labels, int), chosen[list(problems)])
        homes = [class_of_folder(images.class_names[k], class_names) for k in set(left.tolist())]
        missing = tuple(name for name in class_names if name not in homes)
        if len(missing) == len(class_names):
            raise UsageError(
                f"--int8 {folder}: none of its folders ({some_of(images.class_names)}) is a class "
                f"of the model ({some_of(class_names)}) with a photo that can be read. Give the "
                "folder that it was adapted to, or other photos of its classes."
            )
        _, labels = np.unique(np.array(images.labels)[chosen[good]], return_inverse=True)
        if not good or np.bincount(labels).max() < 2:
            raise UsageError(
                f"--int8 {folder}: has no class of two photos that can be read, and answers are "
                "compared on photos that others name. Give the folder that the model is adapted to."
            )
        return cls(pixels[good], labels.astype(np.int64), missing)

    def sample(self) -> npt.NDArray[np.uint8]:
        """Return evenly spaced photos, (B, S, S, 3), for the ranges of activations."""
        chosen = self.pixels[_evenly(len(self.pixels), _MOST_RANGES)]
        return np.ascontiguousarray(chosen.transpose(0, 2, 3, 1))


def _evenly(number: int, most: int) -> npt.NDArray[np.int64]:
    """Return at most `most` evenly spaced indices below `number`."""
    return np.linspace(0, number - 1, min(number, most)).round().astype(np.int64)


def quantised(network: Any, pixels: npt.NDArray[np.uint8]) -> Any:
    """Quantise the convolutions of a network.

    Args:
        network: ONNX's ModelProto, with an input "pixels".
        pixels: uint8 (B, S, S, 3), which the ranges of activations are taken from.

    Raises:
        UsageError: it has too few convolutions.
        Exception: any of onnxruntime's errors, which have no common base.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="fewshot-lite-") as home:
        plain, ready, output = (Path(home) / f"{name}.onnx" for name in ("plain", "ready", "int8"))
        onnx.save(network, plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)  # folds norms into convolutions
        prepared = onnx.load(ready)
        for number, node in enumerate(prepared.graph.node):  # nodes are selected by name below
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
        quantised_network = onnx.load(output)
    del quantised_network.metadata_props[:]  # how it was made
    return quantised_network


def _reader(pixels: npt.NDArray[np.uint8]) -> Any:
    """Return photos as a data reader of onnxruntime's calibration."""
    from onnxruntime import quantization

    class Photos(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = (pixels[i : i + _BATCH] for i in range(0, len(pixels), _BATCH))

        def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"pixels": batch}

    return Photos()


def _to_quantise(graph: Any) -> list[str]:
    """Return the names of all convolutions but the first, and of the sums and ReLUs after them.

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
    """Classify each fold of the photos in both precisions, by a head fitted to the other folds.

    The head is fitted to features in single precision.

    Args:
        model: the model in single precision.
        photos: the photos.
        features: float32 (N, d) of the photos, in eight bits.

    Raises:
        FewshotError: too many answers change, or too many right ones are lost.
    """
    exact, labels = model.features_of(photos.pixels), photos.labels
    classes = int(labels.max()) + 1
    fold_of = deal(torch.from_numpy(labels), classes).numpy()
    answers = np.zeros((2, len(labels)), np.int64)
    for fold in set(fold_of[fold_of >= 0].tolist()):
        out = fold_of == fold
        logits = model.array_head.fit((exact[~out], labels[~out], classes))
        answers[:, out] = [logits(exact[out]).argmax(1), logits(features[out]).argmax(1)]
    known = fold_of >= 0
    before, after = answers[:, known]
    right = (answers == labels)[:, known]
    count, changed = int(known.sum()), int((before != after).sum())
    lost = int(right[0].sum()) - int(right[1].sum())
    error = float(np.linalg.norm(features - exact) / np.linalg.norm(exact))
    if max(changed - _MAY_CHANGE * count, lost - _MAY_LOSE * count) > 0 and changed > _CHANCE:
        raise FewshotError(
            f"--int8: in eight bits {changed} of {count} photos are named otherwise, and {lost} "
            "fewer right. Nothing was written. Export it without."
        )
    return Agreement(count, changed, float(right[0].mean()), float(right[1].mean()), error)
