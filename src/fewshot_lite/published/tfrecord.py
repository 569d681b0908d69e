"""Reading of TFRecord files without TensorFlow.

A file is a chain of records: length (8 bytes), its checksum (4), that many bytes, their checksum
(4); numbers are little-endian, checksums are CRC-32C, rotated and shifted by a constant
(tensorflow/core/lib/io/record_writer.h). Each record here is a `tf.train.Example`, a map from names
to lists of values, of which one is an encoded image.
"""

from __future__ import annotations

import mmap
import struct
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.photo import PhotoError

#: Length and checksum before the bytes of a record, and checksum after them.
_HEAD, _TAIL = struct.Struct("<QI"), struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Record:
    """An image in a TFRecord file: a `StoredImage`."""

    path: Path
    number: int
    """The position in the file, from 1, for messages."""
    start: int
    """The offset of its bytes in the file, after length and checksum."""
    length: int

    def read(self) -> bytes:
        """Check the checksum and return the encoded image under the name `image`.

        Raises:
            PhotoError: damaged, or no Example with such an image.
            OSError: the file cannot be read.
        """
        with self.path.open("rb") as file:
            file.seek(self.start)
            stored = file.read(self.length + _TAIL.size)
        data, tail = stored[: self.length], stored[self.length :]
        if len(tail) < _TAIL.size:
            raise PhotoError("the file was cut off after it was opened")
        if _TAIL.unpack(tail)[0] != masked(_checksum()(data)):
            raise PhotoError("damaged, its checksum does not match")
        return example_bytes(data, "image")

    def __str__(self) -> str:
        return f"{self.path}, record {self.number}"


class RecordFile:
    """The records of a file: `file[0]` is the first. Only their lengths are read."""

    def __init__(self, path: Path) -> None:
        """Index the records.

        Raises:
            FewshotError: missing, unreadable, cut off or damaged; names the file and the record.
        """
        self.path = path
        self._starts = _starts(path)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, position: int) -> Record:
        if not 0 <= position < len(self):
            raise IndexError(position)
        start = self._starts[position]
        length = self._starts[position + 1] - start - _HEAD.size - _TAIL.size
        return Record(self.path, position + 1, start, length)


def _starts(path: Path) -> array[int]:
    """Return the offset of each record's bytes, and that of a record after the last."""
    checksum = _checksum()
    starts = array("Q", [_HEAD.size])
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size == 0:
                return starts
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                for end in _ends(data, size, checksum):
                    starts.append(end + _HEAD.size)
    except FileNotFoundError:
        raise FewshotError(f"{path}: no such file. Convert the data set again.") from None
    except OSError as error:
        raise FewshotError(f"{path}: {error.strerror or error}.") from None
    except _Damaged as error:
        raise FewshotError(
            f"{path}, record {len(starts)}: {error}. Convert or copy this file again."
        ) from None
    return starts


class _Damaged(Exception):
    """The next record is damaged."""


def _ends(data: mmap.mmap, size: int, checksum: Callable[[bytes], int]) -> Iterator[int]:
    """Yield the offset of the end of each record."""
    position = 0
    while position < size:
        if position + _HEAD.size > size:
            raise _Damaged("the file ends within it")
        length, check = _HEAD.unpack_from(data, position)
        if check != masked(checksum(data[position : position + 8])):
            raise _Damaged("damaged, the checksum of its length does not match")
        position += _HEAD.size + length + _TAIL.size
        if position > size:
            raise _Damaged("the file ends within it")
        yield position


def masked(checksum: int) -> int:
    """Return a checksum as it is stored: rotated right by 15 bits, plus a constant, in 32 bits."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _checksum() -> Callable[[bytes], int]:
    try:
        from google_crc32c import value
    except ImportError:
        raise FewshotError(
            "TFRecord files need an extra: pip install 'fewshot-lite[meta-dataset]'"
        ) from None
    function: Callable[[bytes], int] = value
    return function


def example_bytes(record: bytes, name: str) -> bytes:
    """Return the bytes that a serialised `tf.train.Example` holds under a name.

    Example { Features features = 1 }, Features { map<string, Feature> feature = 1 },
    Feature { BytesList bytes_list = 1 }, BytesList { repeated bytes value = 1 }
    (tensorflow/core/example/feature.proto).

    Raises:
        PhotoError: no Example, or nothing of this name and type in it.
    """
    names: list[str] = []
    try:
        for features in _inside(record, 1):
            for entry in _inside(features, 1):
                key = b"".join(_inside(entry, 1)).decode()
                names.append(key)
                if key == name:
                    values = [
                        v for f in _inside(entry, 2) for b in _inside(f, 1) for v in _inside(b, 1)
                    ]
                    if values:
                        return values[0]
    except (IndexError, ValueError):
        raise PhotoError("not a tf.train.Example") from None
    raise PhotoError(f"no bytes under the name {name!r} (names: {', '.join(names) or 'none'})")


def example_integer(record: bytes, name: str) -> int:
    """Return the first number that a serialised `tf.train.Example` holds under a name.

    Feature { Int64List int64_list = 3 }, Int64List { repeated int64 value = 1 [packed] }.

    Raises:
        PhotoError: no Example, or nothing of this name and type in it.
    """
    try:
        for features in _inside(record, 1):
            for entry in _inside(features, 1):
                if b"".join(_inside(entry, 1)).decode() == name:
                    for numbers in (n for f in _inside(entry, 2) for n in _inside(f, 3)):
                        for packed in _inside(numbers, 1):
                            return _varint(packed, 0)[0]
                        _, position = _varint(numbers, 0)  # not packed: a tag before each number
                        return _varint(numbers, position)[0]
    except (IndexError, ValueError):
        raise PhotoError("not a tf.train.Example") from None
    raise PhotoError(f"no number under the name {name!r}")


def _inside(message: bytes, field: int) -> Iterator[bytes]:
    """Yield the values of a length-delimited field of a protocol buffer, in order."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            _, position = _varint(message, position)
            continue
        if wire_type == 2:
            length, position = _varint(message, position)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        end = position + length
        if end > len(message):
            raise ValueError("cut off")
        if wire_type == 2 and number == field:
            yield message[position:end]
        position = end


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, least significant first, and the position after it."""
    number = shift = 0
    while True:
        byte = message[position]
        number |= (byte & 0x7F) << shift
        shift, position = shift + 7, position + 1
        if byte < 0x80:
            return number, position
        if shift > 63:
            raise ValueError("no number")
