"""The kinds of stored images: whole files, records of a file, rows of an array."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewshot_lite.images.opening import PhotoError, memory_for, opened
from fewshot_lite.published.tfrecord import Record
from fewshot_lite.published.vtab.errors import need_extra

Pixels = npt.NDArray[np.uint8]

#: Larger images are reduced to this side: twice 224, so that another resize loses nothing there.
LARGEST_SIDE = 448


@dataclass(frozen=True)
class WholeImage:
    """An encoded image, resized to a square as in VTAB.

    The central crop that is used for photos elsewhere would lack objects that the labels of CLEVR
    and KITTI count.
    """

    source: Path | Record

    def read(self) -> Pixels:
        """Return uint8 (side, side, 3)."""
        encoded = self.source if isinstance(self.source, Path) else BytesIO(self.source.read())
        with opened(encoded) as image, memory_for(image):
            image.draft("RGB", (LARGEST_SIDE, LARGEST_SIDE))  # JPEG: decoded at a reduced scale
            side = min(max(image.size), LARGEST_SIDE)
            whole = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(whole)

    def __str__(self) -> str:
        return str(self.source)


@dataclass(frozen=True)
class RecordImage:
    """Raw pixels at an offset in a file."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    """(height, width), or (3, height, width) for three planes."""

    def read(self) -> Pixels:
        """Return uint8 (height, width) or (height, width, 3)."""
        count = math.prod(self.shape)
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(count)
        if len(data) != count:
            raise PhotoError("the file ends before this image")
        pixels = np.frombuffer(data, np.uint8).reshape(self.shape)
        return np.ascontiguousarray(pixels.transpose(1, 2, 0)) if pixels.ndim == 3 else pixels

    def __str__(self) -> str:
        return f"{self.path}, byte {self.offset:,}"


@dataclass(frozen=True)
class RowImage:
    """A row of an array in memory that all images of a file share."""

    path: Path
    row: int
    """The row in the file."""
    place: int = field(compare=False)
    """The row in `array`."""
    array: Pixels = field(compare=False, repr=False)
    """(M, height, width, 3), or (M, height, width / 8) for images of single bits."""

    def read(self) -> Pixels:
        """Return uint8 (height, width, 3), or (height, width) of 0 or 255 for single bits."""
        pixels = self.array[self.place]
        if pixels.ndim == 2:
            pixels = np.unpackbits(pixels, axis=-1) * np.uint8(255)
        return np.ascontiguousarray(pixels)

    def __str__(self) -> str:
        return f"{self.path}, image {self.row + 1:,}"


@dataclass(frozen=True)
class Hdf5Image:
    """A row of the array `x` of an HDF5 file."""

    path: Path
    row: int

    def read(self) -> Pixels:
        """Return uint8 (height, width, 3)."""
        with need_extra("h5py").File(self.path, "r") as file:
            return np.asarray(file["x"][self.row], dtype=np.uint8)

    def __str__(self) -> str:
        return f"{self.path}, image {self.row + 1:,}"
