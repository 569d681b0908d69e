"""Read one photo as a square RGB image: the only entry of pixels, in training and in use.

A photo is opened, its central square is reduced and converted to RGB in bands, turned upright
(EXIF) and resized. Large JPEGs are decoded at a reduced scale (`Image.draft`), which costs a
fraction of a full decode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from fewshot_lite.core.config import COUNT, check_whole
from fewshot_lite.core.files import as_path
from fewshot_lite.images.opening import PhotoError as PhotoError
from fewshot_lite.images.opening import check_size, memory_for, one_line, opened
from fewshot_lite.images.regions import Box, Region, square_around

_T = Image.Transpose
#: EXIF orientation -> transposition that turns the photo upright.
_TURNS = {
    2: _T.FLIP_LEFT_RIGHT,
    3: _T.ROTATE_180,
    4: _T.FLIP_TOP_BOTTOM,
    5: _T.TRANSPOSE,
    6: _T.ROTATE_270,
    7: _T.TRANSVERSE,
    8: _T.ROTATE_90,
}
#: Transpositions that keep width and height, and those that reverse the columns or the rows.
_UNSWAPPED = (_T.FLIP_LEFT_RIGHT, _T.FLIP_TOP_BOTTOM, _T.ROTATE_180)
_FROM_RIGHT = (_T.FLIP_LEFT_RIGHT, _T.ROTATE_180, _T.ROTATE_90, _T.TRANSVERSE)
_FROM_BELOW = (_T.FLIP_TOP_BOTTOM, _T.ROTATE_180, _T.ROTATE_270, _T.TRANSVERSE)
#: Left, top, right and bottom.
Area: TypeAlias = tuple[int, int, int, int]
#: Pixels converted to RGB at a time: copies of a whole photo would take gigabytes.
_BAND = 2**20
#: White levels of grey photos of more than 8 bits, by number type ("F": floats, "I": integers); see
#: `images.bit_depths`.
Whites: TypeAlias = Mapping[str, float]
#: Common white levels, those of 8, 10, 12, 14 and 16 bits among them.
_WHITES = {"F": (1.0, 255.0, 65535.0), "I": (255.0, 1023.0, 4095.0, 16383.0, 65535.0)}
NO_WHITES: Whites = {}


class StoredImage(Protocol):
    """An image that is not a file of its own: a record, a row of an array. Hashable and small."""

    def read(self) -> bytes | Image.Image | npt.NDArray[Any] | Square:
        """Return an encoded image, a Pillow image that the caller may change, pixels (height,
        width[, 3 or 4]), uint8, or uint16 if grey, or a square of the requested size. Raises
        PhotoError or OSError."""
        ...

    def __str__(self) -> str:
        """Return the place of the image for messages: the file, and where in it."""
        ...


#: A place from which one image can be read.
Source: TypeAlias = Path | StoredImage | Region


class Square(NamedTuple):
    """The central square of a photo, resized."""

    pixels: npt.NDArray[np.uint8]
    """(size, size, 3), RGB."""
    width: int
    """Width of the whole photo as stored, in pixels; `height` likewise."""
    height: int
    white: int | None = None
    """White level of a grey photo of more than 8 bits, estimated from its own values."""


def load_square(source: Source | str, size: int) -> npt.NDArray[np.uint8]:
    """Return the pixels of `read_square`, uint8 (size, size, 3).

    Raises:
        InputError: a source of another type.
        UsageError: a size that is no whole number from 1 on.
        PhotoError: as `read_square`.
    """
    if not isinstance(source, Region) and not hasattr(source, "read"):
        source = as_path(source, "source")
    check_whole("size", size, COUNT)
    return read_square(source, size).pixels


def read_square(source: Source, size: int, *, whites: Whites = NO_WHITES) -> Square:
    """Read a photo and resize its central square. Thread-safe.

    Args:
        source: a file of any of `opening.FORMATS` (the first frame of animated ones), an image
            stored otherwise, or a region of either.
        size: side of the result in pixels.
        whites: lower bounds of the white level of grey photos of more than 8 bits.

    Raises:
        PhotoError: the file is missing, unreadable, truncated, too large or not an image.
    """
    photo, box = (source.photo, source.box) if isinstance(source, Region) else (source, None)
    with _image_of(photo) as image:
        return image if isinstance(image, Square) else square_of(image, size, box, whites)


def read_white(source: Source) -> tuple[str, float] | None:
    """Return number type and white level of a grey photo of more than 8 bits, from its own values.

    For other photos it returns None, without decoding them.

    Raises:
        PhotoError: as `read_square`.
    """
    with _image_of(source.photo if isinstance(source, Region) else source) as image:
        if isinstance(image, Square) or _kind(image) is None:
            return None
        with memory_for(image):
            image.load()
            white, kind = _white(image), _kind(image)
    return None if white is None or kind is None else (kind, white)


@contextlib.contextmanager
def _image_of(photo: Path | StoredImage) -> Iterator[Image.Image | Square]:
    """Open a photo, or yield its square if that is stored; raises PhotoError."""
    file: Path | BytesIO
    with one_line():
        if isinstance(photo, Path):
            file = photo
        elif isinstance(stored := photo.read(), bytes):
            file = BytesIO(stored)
        elif isinstance(stored, Square):
            yield stored
            return
        else:
            pixels = stored if isinstance(stored, Image.Image) else Image.fromarray(stored)
            check_size(pixels)
            yield pixels
            return
    with opened(file) as image:
        yield image


def square_of(
    image: Image.Image, size: int, box: Box | None = None, whites: Whites = NO_WHITES
) -> Square:
    """Return the central square of an opened image, or the square around a box of it.

    Raises:
        PhotoError: the image cannot be decoded, or the box lies outside of it.
    """
    width, height = image.size
    if image.format in ("JPEG", "MPO") and box is None:
        # Twice the target size keeps the resize below well-sampled. No side may be scaled below the
        # target square, so draft is given the aspect ratio of the whole image.
        scale = max(1.0, min(width, height) / (2 * size))
        image.draft(None, (int(width / scale), int(height / scale)))
        image.info["whole"] = (width, height)
    with memory_for(image):
        image.load()  # before reading the orientation: Pillow turns a TIFF upright on loading
        white = _white(image)
        turn = _TURNS.get(_orientation(image))
        area = (0, 0, *image.size) if box is None else _area(image.size, turn, box)
        least = whites.get(_kind(image) or "", 0.0)
        square = _reduced(image, area, size, None if white is None else max(white, least))
    if turn is not None:
        square = square.transpose(turn)
    side = min(square.size)
    left, top = (square.width - side) / 2, (square.height - side) / 2
    box = (left, top, left + side, top + side)
    square = square.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return Square(np.asarray(square), width, height, None if white is None else int(white))


def _area(size: tuple[int, int], turn: Image.Transpose | None, box: Box) -> Area:
    """Return the pixels of a box (`images.regions`) in the photo as stored; raises PhotoError."""
    width, height = size
    swapped = turn is not None and turn not in _UNSWAPPED
    upright = (height, width) if swapped else (width, height)
    part = square_around(box, *upright)
    if part is None:
        raise PhotoError(f"the box lies outside of the photo, {upright[0]} x {upright[1]}")
    left, top, right, bottom = part
    if swapped:
        left, top, right, bottom = top, left, bottom, right
    if turn in _FROM_RIGHT:
        left, right = width - right, width - left
    if turn in _FROM_BELOW:
        top, bottom = height - bottom, height - top
    return left, top, right, bottom


def _reduced(image: Image.Image, area: Area, size: int, white: float | None) -> Image.Image:
    """Return the central square of an area in RGB, reduced to no less than 3 `size` a side.

    Blocks of pixels are averaged before the resize, like Pillow's `reducing_gap`. A square that
    would begin at half a pixel is extended by half a pixel on both sides.
    """
    sides = area[2] - area[0], area[3] - area[1]
    side = min(sides)
    factor = max(1, side // (3 * size))
    if factor > 1:
        width = height = side - side % factor
    else:
        width, height = (side + (length - side) % 2 for length in sides)
    left, top = area[0] + (sides[0] - width) // 2, area[1] + (sides[1] - height) // 2
    if factor == 1 and image.mode == "RGB" and not image.has_transparency_data:
        return image.crop((left, top, left + width, top + height))
    rows = factor * max(1, _BAND // (width * factor))
    square = Image.new("RGB", (width // factor, height // factor))
    for row in range(0, height, rows):
        box = (left, top + row, left + width, top + min(row + rows, height))
        band = image.crop(box)
        if image.mode == "LAB":  # reduce first, as converting a pixel takes a microsecond
            band = _rgb(band.reduce(factor), white)
        else:
            band = _rgb(band, white).reduce(factor)
        square.paste(band, (0, row // factor))
    return square


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1, upright, if the data are damaged.

    ImageOps.exif_transpose would raise then, as it reads and rewrites all EXIF data.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def _rgb(image: Image.Image, white: float | None) -> Image.Image:
    """Convert any mode to RGB, transparency laid on white; `white` maps grey values to 255."""
    if white is not None:
        values = np.asarray(image, dtype=np.float32)
        values = np.nan_to_num(np.clip(values, 0, white) / white)  # infinity is clipped to white
        return Image.fromarray((values * 255).round().astype(np.uint8)).convert("RGB")
    if image.mode == "LAB":
        return lab_to_rgb(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        backdrop = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(backdrop, rgba).convert("RGB")
    return image.convert("RGB")


def _kind(image: Image.Image) -> str | None:
    """Return the number type of a grey image of more than 8 bits, as in `Whites`, else None."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return image.mode[:1]
    return None


def _white(image: Image.Image) -> float | None:
    """Estimate the white level of a grey image of more than 8 bits; None for others."""
    if _kind(image) is None:
        return None
    peak = max((float(v.max(initial=0, where=np.isfinite(v))) for v in _bands(image)), default=0.0)
    return usual_white(peak, image.mode)


def usual_white(peak: float, mode: str = "I;16") -> float:
    """Return the least common white level that is not below `peak`, or else `peak`."""
    usual = _WHITES.get(mode, _WHITES["I"][1:])
    return next((value for value in usual if peak <= value), peak)


def file_of(source: Source) -> Path | None:
    """Return the file of a source; None if it is stored otherwise."""
    photo = source.photo if isinstance(source, Region) else source
    return photo if isinstance(photo, Path) else None


def place_of(source: Source) -> Path:
    """Return the file of a source, or a path made of its description if it is stored otherwise."""
    return file_of(source) or Path(str(source))


def _bands(image: Image.Image) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the values of a grey image, some rows at a time."""
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        yield np.asarray(image.crop(box), dtype=np.float32)


_D50 = np.array([0.96422, 1.0, 0.82521], dtype=np.float32)
#: XYZ (D50) to linear sRGB, by Lindbloom.
_TO_RGB = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ],
    dtype=np.float32,
)
#: Below this the cube root in L*a*b* is replaced by a line.
_KNEE = np.float32(6 / 29)


def lab_to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of mode LAB to RGB, clipping colours outside sRGB."""
    values = np.asarray(image)
    lightness = (values[..., 0] * np.float32(100 / 255) + 16) / 116
    a, b = values[..., 1:].astype(np.int8).transpose(2, 0, 1).astype(np.float32)  # signed
    roots = np.stack([lightness + a / 500, lightness, lightness - b / 200], -1)
    lines = (roots - np.float32(4 / 29)) * (3 * _KNEE**2)
    xyz = np.where(roots > _KNEE, roots**3, lines) * _D50
    linear = (xyz @ _TO_RGB.T).clip(0, 1)
    curved = np.float32(1.055) * linear ** np.float32(1 / 2.4) - np.float32(0.055)
    rgb = np.where(linear > 0.0031308, curved, np.float32(12.92) * linear)
    return Image.fromarray((255 * rgb).round().astype(np.uint8))
