"""One photo file to one square RGB image: the only way pixels enter, in training and in use.

A photo is opened, its central square is reduced and brought to RGB band by band, turned upright
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

from fewshot_lite.images.opening import PhotoError as PhotoError
from fewshot_lite.images.opening import check_size, memory_for, one_line, opened
from fewshot_lite.images.regions import Box, Region, square_around

#: EXIF orientation -> what turns the photo upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_T = Image.Transpose
#: Those that keep width and height; and those where columns, or rows, count from the other end.
_UNSWAPPED = (_T.FLIP_LEFT_RIGHT, _T.FLIP_TOP_BOTTOM, _T.ROTATE_180)
_FROM_RIGHT = (_T.FLIP_LEFT_RIGHT, _T.ROTATE_180, _T.ROTATE_90, _T.TRANSVERSE)
_FROM_BELOW = (_T.FLIP_TOP_BOTTOM, _T.ROTATE_180, _T.ROTATE_270, _T.TRANSVERSE)
#: Left, top, right and bottom.
Area: TypeAlias = tuple[int, int, int, int]
#: Pixels that are brought to RGB at a time: copies of a whole photo would take gigabytes.
_BAND = 2**20
#: Values of white in grey photos of more than 8 bits, by the kind of numbers ("F": floats, "I":
#: whole ones) of which there are any; see `images.bit_depths`.
Whites: TypeAlias = Mapping[str, float]
#: Those that are usual: cameras, microscopes and scanners keep 10, 12 or 14 bits in files of 16,
#: and a file does not say how many.
_WHITES = {"F": (1.0, 255.0, 65535.0), "I": (255.0, 1023.0, 4095.0, 16383.0, 65535.0)}
#: What is known of photos that nothing is known of.
NO_WHITES: Whites = {}


class StoredImage(Protocol):
    """An image that is not a file of its own: a record, a row of an array. Hashable and small."""

    def read(self) -> bytes | Image.Image | npt.NDArray[Any] | Square:
        """An encoded image, one of Pillow's to keep, or pixels (height, width[, 3 or 4]), uint8,
        or uint16 if grey; or its square, if it is of the size asked for. Raises PhotoError or
        OSError."""
        ...

    def __str__(self) -> str:
        """Where it lies, for messages: the file, and where in it."""
        ...


#: Where the pixels of one image come from.
Source: TypeAlias = Path | StoredImage | Region


class Square(NamedTuple):
    """The central square of a photo, resized."""

    pixels: npt.NDArray[np.uint8]
    """(size, size, 3), RGB."""
    width: int
    """The size of the whole photo as it is stored, in pixels."""
    height: int
    white: int | None = None
    """What white would be in a grey photo of more than 8 bits by its own values."""


def load_square(source: Source, size: int) -> npt.NDArray[np.uint8]:
    """As `read_square`, the pixels alone."""
    return read_square(source, size).pixels


def read_square(source: Source, size: int, *, whites: Whites = NO_WHITES) -> Square:
    """Read a photo and resize its central square. Threads may call this at the same time.

    Args:
        source: a file of any of `opening.FORMATS`, whatever its ending; of animated files the first
            frame is taken. Or an image stored otherwise, or a region of any of these.
        size: side of the result in pixels.
        whites: of grey photos of more than 8 bits, what white is at least.

    Raises:
        PhotoError: the file is missing, unreadable, truncated, too large or no image.
    """
    photo, box = (source.photo, source.box) if isinstance(source, Region) else (source, None)
    with _image_of(photo) as image:
        return image if isinstance(image, Square) else square_of(image, size, box, whites)


def read_white(source: Source) -> tuple[str, float] | None:
    """The kind of numbers and the white of a grey photo of more than 8 bits, by its own values.

    Returns:
        None for other photos, of which no pixel is decoded.

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
    """A photo opened, or its square where that is stored; raises PhotoError."""
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
    """The central square of an opened image, or of what lies in a box; raises PhotoError."""
    width, height = image.size
    if image.format in ("JPEG", "MPO") and box is None:
        # Twice the wanted size keeps the resize below well-sampled. A side may not be scaled
        # below the wanted square, so draft is given the shape of the whole image.
        scale = max(1.0, min(width, height) / (2 * size))
        image.draft(None, (int(width / scale), int(height / scale)))
        image.info["whole"] = (width, height)
    with memory_for(image):
        image.load()  # before the orientation is looked up: a TIFF is turned upright as it loads
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
    """The pixels of a region (`images.regions`) in a photo as it is stored; raises PhotoError."""
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
    """The central square of an area in RGB, at least three times `size` a side if it was larger.

    Means of whole blocks of pixels come before the resize, as `reducing_gap` has it. A square that
    begins in the middle of a pixel has half a pixel more on both sides.
    """
    wholes = area[2] - area[0], area[3] - area[1]
    side = min(wholes)
    factor = max(1, side // (3 * size))
    if factor > 1:
        width = height = side - side % factor
    else:
        width, height = (side + (whole - side) % 2 for whole in wholes)
    left, top = area[0] + (wholes[0] - width) // 2, area[1] + (wholes[1] - height) // 2
    if factor == 1 and image.mode == "RGB" and not image.has_transparency_data:
        return image.crop((left, top, left + width, top + height))  # as it is
    rows = factor * max(1, _BAND // (width * factor))
    square = Image.new("RGB", (width // factor, height // factor))
    for row in range(0, height, rows):
        box = (left, top + row, left + width, top + min(row + rows, height))
        band = image.crop(box)
        if image.mode == "LAB":  # the fewer pixels, as converting one takes a microsecond
            band = _rgb(band.reduce(factor), white)
        else:
            band = _rgb(band, white).reduce(factor)
        square.paste(band, (0, row // factor))
    return square


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where damaged data do not tell.

    ImageOps.exif_transpose would give up the photo then: it reads and rewrites all of the data.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def _rgb(image: Image.Image, white: float | None) -> Image.Image:
    """RGB of any mode; transparency is laid on white.

    Args:
        white: of grey values of more than 8 bits, the one that becomes 255.
    """
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
    """The kind of numbers of a grey image of more than 8 bits, as `Whites` has it."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return image.mode[:1]
    return None


def _white(image: Image.Image) -> float | None:
    """The value that is white in grey images of more than 8 bits; None for others.

    It is the largest that the fewest usual bits can hold, or else the largest there is.
    """
    if _kind(image) is None:
        return None
    peak = max((float(v.max(initial=0, where=np.isfinite(v))) for v in _bands(image)), default=0.0)
    return usual_white(peak, image.mode)


def usual_white(peak: float, mode: str = "I;16") -> float:
    """The value of white by the largest value there is: as many bits as are usual and hold it."""
    usual = _WHITES.get(mode, _WHITES["I"][1:])
    return next((value for value in usual if peak <= value), peak)


def file_of(source: Source) -> Path | None:
    """The file of an image; None of one stored otherwise."""
    photo = source.photo if isinstance(source, Region) else source
    return photo if isinstance(photo, Path) else None


def place_of(source: Source) -> Path:
    """The file of an image; of one stored otherwise, where it lies in words."""
    return file_of(source) or Path(str(source))


def _bands(image: Image.Image) -> Iterator[npt.NDArray[np.float32]]:
    """The values of a grey image, some rows at a time."""
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        yield np.asarray(image.crop(box), dtype=np.float32)


_D50 = np.array([0.96422, 1.0, 0.82521], dtype=np.float32)
#: XYZ (D50) to linear sRGB, Lindbloom's.
_TO_RGB = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ],
    dtype=np.float32,
)
#: Where the cube root of L*a*b* becomes a line, 6/29.
_KNEE = np.float32(6 / 29)


def lab_to_rgb(image: Image.Image) -> Image.Image:
    """An image of mode LAB in mode RGB; colours that sRGB lacks are clipped."""
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
