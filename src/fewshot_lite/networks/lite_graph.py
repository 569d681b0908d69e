"""EfficientNet-Lite as an ONNX model, from stored weights alone; this does not import torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot_lite.networks.lite_layout import (
    EPSILON,
    HEAD,
    STEM,
    VARIANTS,
    block_shapes,
    same_padding,
)
from fewshot_lite.networks.onnx_writer import OnnxGraph

#: The model's input.
PIXELS = "pixels"

_Array = npt.NDArray[Any]


def lite_graph(
    name: str,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    weights: Mapping[str, _Array],
) -> bytes:
    """A network that gives features, float32 (B, 1280), of pixels, uint8 (B, 3, size, size).

    Batch normalisation is part of the convolutions before it.

    Args:
        name: as `VARIANTS` has it.
        size: side of the images.
        mean: of the channels, of images in [0, 1].
        std: likewise.
        weights: state of `EfficientNetLite` without its classifier.

    Raises:
        KeyError, ValueError: there is no such network, or other weights than it has, or such as
            are not finite.
    """
    net = _Net(size, dict(weights))
    scale, shift = 1 / (255 * np.array(std)), -np.array(mean) / np.array(std)
    if not (scale.shape == shift.shape == (3,) and (scale > 0).all() and np.isfinite(shift).all()):
        raise ValueError(f"mean {mean}, std {std}")
    scaled = net.graph.add("Cast", PIXELS, to=1)
    scaled = net.graph.add("Mul", scaled, net.graph.weight(scale[:, None, None]))
    x = net.graph.add("Add", scaled, net.graph.weight(shift[:, None, None]))
    x = net.convolved(x, "features.0", 3, STEM, 3, 2)
    shapes = block_shapes(VARIANTS[name])
    for number, shape in enumerate(shapes, start=1):
        block, before, wide = f"features.{number}", x, shape.inputs * shape.expansion
        if shape.expansion > 1:
            x = net.convolved(x, f"{block}.expand", shape.inputs, wide)
        x = net.convolved(
            x, f"{block}.depthwise", wide, wide, shape.kernel, shape.stride, groups=wide
        )
        x = net.convolved(x, f"{block}.project", wide, shape.outputs, clipped=False)
        if shape.stride == 1 and shape.inputs == shape.outputs:
            x = net.graph.add("Add", before, x)
    x = net.convolved(x, f"features.{len(shapes) + 1}", shapes[-1].outputs, HEAD)
    x = net.graph.add("Flatten", net.graph.add("GlobalAveragePool", x), axis=1)
    if net.weights:
        raise ValueError(f"{next(iter(net.weights))} is no weight of {name}")
    return net.graph.model(PIXELS, "uint8", ("batch", 3, size, size), x, ("batch", HEAD))


class _Net:
    """The graph as far as it is written, and the weights that it has not taken yet."""

    def __init__(self, size: int, weights: dict[str, _Array]) -> None:
        self.graph = OnnxGraph()
        self.size = size
        self.weights = weights
        self._bounds = self.graph.weight(0.0), self.graph.weight(6.0)

    def convolved(
        self,
        x: str,
        name: str,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        clipped: bool = True,
    ) -> str:
        """Append convolution, batch normalisation and, if `clipped`, ReLU6; the output's name."""
        weight = self._take(f"{name}.0.weight", (outputs, inputs // groups, kernel, kernel))
        factor, bias, mean, variance = (
            self._take(f"{name}.1.{part}", (outputs,)).astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        del self.weights[f"{name}.1.num_batches_tracked"]
        factor = factor / np.sqrt(variance + EPSILON)
        bias = bias - mean * factor
        weight = weight.astype(np.float32) * factor.astype(np.float32)[:, None, None, None]
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError(f"{name} is not finite")
        before, after = same_padding(self.size, kernel, stride)
        self.size = math.ceil(self.size / stride)
        x = self.graph.add(
            "Conv",
            x,
            self.graph.weight(weight),
            self.graph.weight(bias),
            strides=(stride, stride),
            pads=(before, before, after, after),
            group=groups,
            kernel_shape=(kernel, kernel),
        )
        return self.graph.add("Clip", x, *self._bounds) if clipped else x

    def _take(self, name: str, shape: tuple[int, ...]) -> _Array:
        found = self.weights.pop(name)
        if found.shape != shape or found.dtype not in (np.float16, np.float32):
            raise ValueError(f"{name} has another shape or type")
        return found
