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
    """A network that gives features, float32 (B, 1280), of "pixels", uint8 (B, 3, size, size).

    Or a part of it, as `stages.Staged` counts: the stem, the blocks and the head are a stage each.
    Below a stage there are maps, float32 (B, C, H, W), "maps" of a part that takes them. Batch
    normalisation is part of the convolutions before it.

    Args:
        name: as `VARIANTS` has it.
        size: side of the images.
        mean: of the channels, of images in [0, 1].
        std: likewise.
        weights: state of `EfficientNetLite` without its classifier.
        start: first stage.
        stop: the stage before which to stop; None to go on to the features.

    Raises:
        KeyError, ValueError: there is no such network, or other weights than it has, or such as
            are not finite.
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
    """The graph as far as it is written, and the weights that it has not taken yet."""

    def __init__(self, size: int, weights: dict[str, _Array]) -> None:
        self.graph = OnnxGraph()
        self.written = True
        """Whether what comes next is part of the graph."""
        self.size, self.channels = size, 3
        """The shape of the map so far."""
        self.weights = weights
        self._bounds = self.graph.weight(0.0), self.graph.weight(6.0)

    def standardised(self, pixels: str, mean: Sequence[float], std: Sequence[float]) -> str:
        """Append what makes of pixels what the network takes; its name."""
        scale, shift = 1 / (255 * np.array(std)), -np.array(mean) / np.array(std)
        whole = scale.shape == shift.shape == (3,) and (scale > 0).all()
        if not (whole and np.isfinite(shift).all()):
            raise ValueError(f"mean {mean}, std {std}")
        scaled = self.graph.add("Cast", pixels, to=1)
        scaled = self.graph.add("Mul", scaled, self.graph.weight(scale[:, None, None]))
        return self.graph.add("Add", scaled, self.graph.weight(shift[:, None, None]))

    def stage(self, x: str, number: int, shapes: Sequence[BlockShape]) -> str:
        """Append the stem, a block or the head; the output's name."""
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
        """Append convolution, batch normalisation and, if `clipped`, ReLU6; the output's name."""
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
        found = self.weights.pop(name)
        if found.shape != shape or found.dtype not in (np.float16, np.float32):
            raise ValueError(f"{name} has another shape or type")
        return found
