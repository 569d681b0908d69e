"""Write ONNX models without the packages `onnx` and torch.

A model is a protocol buffer: a sequence of fields, each with a number and a wire type: a
variable-length integer, 4 bytes, or a length and as many bytes. Field numbers are those of
onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: Version of the format (10 is that of ONNX 1.16) and of the operator set.
_IR_VERSION, _OPSET = 10, 17
#: TensorProto.DataType.
_TYPES = {"float32": 1, "uint8": 2, "int64": 7}
#: AttributeProto.AttributeType.
_FLOAT, _INT, _INTS = 1, 2, 7


class OnnxGraph:
    """A graph of nodes, in the order of computation, and their weights."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._weights: list[bytes | memoryview] = []  # large, so copied only once, at the end
        self._count = 0

    def weight(self, values: npt.ArrayLike) -> str:
        """Add weights, as float32; return their name."""
        array = np.ascontiguousarray(values, np.float32)
        name = self._new_name()
        tensor = b"".join(_integer(1, size) for size in np.shape(values))
        tensor += _integer(2, _TYPES["float32"]) + _bytes(8, name.encode()) + _tag(9, array.nbytes)
        self._weights += [_tag(5, len(tensor) + array.nbytes) + tensor, array.data.cast("B")]
        return name

    def add(self, operator: str, *inputs: str, **attributes: float | int | Sequence[int]) -> str:
        """Append a node with one output; return the output's name.

        Args:
            operator: an ONNX operator, e.g. "Conv".
            inputs: names of other nodes' outputs and of weights.
            attributes: of the operator.
        """
        name = self._new_name()
        node = b"".join(_bytes(1, source.encode()) for source in inputs)
        node += _bytes(2, name.encode()) + _bytes(4, operator.encode())
        node += b"".join(_bytes(5, _attribute(*item)) for item in attributes.items())
        self._nodes.append(node)
        return name

    def model(
        self,
        source: str,
        kind: str,
        sizes: Sequence[int | str],
        output: str,
        output_sizes: Sequence[int | str],
    ) -> bytes:
        """Serialise the model, with one input and one output.

        Args:
            source: name of the input.
            kind: its type, "uint8" or "float32".
            sizes: its shape, with names for variable dimensions.
            output: name of the output, float32.
            output_sizes: its shape.
        """
        nodes = b"".join(_bytes(1, node) for node in self._nodes) + _bytes(2, b"network")
        ends = _bytes(11, _value(source, kind, sizes))
        ends += _bytes(12, _value(output, "float32", output_sizes))
        graph = [nodes, *self._weights, ends]
        head = _integer(1, _IR_VERSION) + _bytes(8, _integer(2, _OPSET))
        return b"".join([head, _tag(7, sum(map(len, graph))), *graph])

    def _new_name(self) -> str:
        self._count += 1
        return f"v{self._count}"


def _attribute(name: str, value: Any) -> bytes:
    field = _bytes(1, name.encode())
    if isinstance(value, float):
        return field + b"\x15" + struct.pack("<f", value) + _integer(20, _FLOAT)
    if isinstance(value, int):
        return field + _integer(3, value) + _integer(20, _INT)
    return field + b"".join(_integer(8, item) for item in value) + _integer(20, _INTS)


def _value(name: str, kind: str, sizes: Iterable[int | str]) -> bytes:
    """Return the ValueInfoProto of a tensor."""
    dims = [_integer(1, n) if isinstance(n, int) else _bytes(2, n.encode()) for n in sizes]
    shape = b"".join(_bytes(1, dim) for dim in dims)
    tensor = _integer(1, _TYPES[kind]) + _bytes(2, shape)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor))


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, data: bytes) -> bytes:
    return _tag(field, len(data)) + data


def _tag(field: int, length: int) -> bytes:
    """Return the tag and the length in front of a field of bytes."""
    return _varint(field << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    """Encode seven bits per byte, lowest first; the eighth bit marks that more follow."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
