"""Build an ONNX model of EfficientNet-Lite from stored weights, without importing torch."""

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
    BlockShape,
    block_shapes,
    same_padding,
)
from fewshot_lite.networks.onnx_writer import OnnxGraph

_Array = npt.NDArray[Any]


def lite_graph(
    name: str,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    weights: Mapping[str, _Array],
    start: int = 0,
    stop: int | None = None,
) -> bytes:
    """Return an ONNX model from "pixels", uint8 (B, 3, size, size), to features, float32 (B, 1280).

    Or of some stages, as in `stages.Staged`: stem, blocks and head are a stage each. Between stages
    there are maps, float32 (B, C, H, W); the input of a part is then called "maps". Batch
    normalisation is folded into the convolutions.

    Args:
        name: a key of `VARIANTS`.
        size: side of the images.
        mean: of each channel, of images in [0, 1].
        std: standard deviation of each channel.
        weights: state dict of `EfficientNetLite` without its classifier.
        start: first stage.
        stop: the stage to stop before; None runs up to the features.

    Raises:
        KeyError, ValueError: the network is unknown, or the weights do not fit it or are not
            finite.
    """
    net = _Net(size, dict(weights))
    shapes = block_shapes(VARIANTS[name])
    x = "maps" if start else net.standardised("pixels", mean, std)
    source = (x, "float32") if start else ("pixels", "uint8")
    sizes: tuple[int | str, ...] = ("batch", 3, size, size)
    for number in range(len(shapes) + 2)[:stop]:
        net.written = number >= start
        x = net.stage(x, number, shapes)
        if number == start - 1:
            x, sizes = "maps", ("batch", net.channels, net.size, net.size)
    if stop is not None:
        return net.graph.model(*source, sizes, x, ("batch", net.channels, net.size, net.size))
    x = net.graph.add("Flatten", net.graph.add("GlobalAveragePool", x), axis=1)
    if net.weights and not start:
        raise ValueError(f"{next(iter(net.weights))} is no weight of {name}")
    return net.graph.model(*source, sizes, x, ("batch", HEAD))


class _Net:
    """The graph being built, and the weights that it has not used yet."""

    def __init__(self, size: int, weights: dict[str, _Array]) -> None:
        self.graph = OnnxGraph()
        self.written = True
        """Whether the current stage is part of the graph."""
        self.size, self.channels = size, 3
        """Side and channels of the current map."""
        self.weights = weights
        self._bounds = self.graph.weight(0.0), self.graph.weight(6.0)

    def standardised(self, pixels: str, mean: Sequence[float], std: Sequence[float]) -> str:
        """Append the standardisation of pixels; return the output's name."""
        scale, shift = 1 / (255 * np.array(std)), -np.array(mean) / np.array(std)
        valid = scale.shape == shift.shape == (3,) and (scale > 0).all()
        if not (valid and np.isfinite(shift).all()):
            raise ValueError(f"mean {mean}, std {std}")
        scaled = self.graph.add("Cast", pixels, to=1)
        scaled = self.graph.add("Mul", scaled, self.graph.weight(scale[:, None, None]))
        return self.graph.add("Add", scaled, self.graph.weight(shift[:, None, None]))

    def stage(self, x: str, number: int, shapes: Sequence[BlockShape]) -> str:
        """Append the stem, a block or the head; return the output's name."""
        name = f"features.{number}"
        if number == 0:
            return self.convolved(x, name, STEM, 3, 2)
        if number > len(shapes):
            return self.convolved(x, name, HEAD)
        shape, before = shapes[number - 1], x
        wide = shape.inputs * shape.expansion
        if shape.expansion > 1:
            x = self.convolved(x, f"{name}.expand", wide)
        x = self.convolved(x, f"{name}.depthwise", wide, shape.kernel, shape.stride, groups=wide)
        x = self.convolved(x, f"{name}.project", shape.outputs, clipped=False)
        if shape.stride == 1 and shape.inputs == shape.outputs and self.written:
            x = self.graph.add("Add", before, x)
        return x

    def convolved(
        self,
        x: str,
        name: str,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        clipped: bool = True,
    ) -> str:
        """Append convolution with batch norm and, if `clipped`, ReLU6; return the output's name."""
        inputs, self.channels = self.channels, outputs
        before, after = same_padding(self.size, kernel, stride)
        self.size = math.ceil(self.size / stride)
        if not self.written:
            return x
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
        weight = self.weights.pop(name)
        if weight.shape != shape or weight.dtype not in (np.float16, np.float32):
            raise ValueError(f"{name} has another shape or type")
        return weight
