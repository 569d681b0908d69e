"""One photo file to one square RGB image: the only way pixels enter, in training and in use.

A photo is opened, turned upright (EXIF), brought to RGB and its central square is resized. Large
JPEGs are decoded at a reduced scale (`Image.draft`), which costs a fraction of a full decode.
"""

from __future__ import annotations

import contextlib
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from textwrap import shorten
from typing import BinaryIO, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError, features

#: Larger images are refused before they are decoded: a few kilobytes can claim gigapixels.
MAX_PIXELS = 250_000_000

#: An image of more pixels is decoded alone: threads side by side would need gigabytes.
_ALONE = 40_000_000

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


class PhotoError(Exception):
    """A file that cannot be read as a photo; the message is the reason alone, without the path."""


class StoredImage(Protocol):
    """An image that is not a file of its own: a record, a row of an array. Hashable and small."""

    def read(self) -> bytes | npt.NDArray[np.uint8]:
        """An encoded image, or pixels (height, width[, 3]); raises PhotoError or OSError."""
        ...

    def __str__(self) -> str:
        """Where it lies, for messages: the file, and where in it."""
        ...


#: Where the pixels of one image come from.
Source: TypeAlias = Path | StoredImage


class Square(NamedTuple):
    """The central square of a photo, resized."""

    pixels: npt.NDArray[np.uint8]
    """(size, size, 3), RGB."""
    width: int
    """Of the whole photo as it is stored, in pixels."""
    height: int


@contextlib.contextmanager
def pixel_limit(max_pixels: int | None) -> Iterator[None]:
    """Within, images of up to `max_pixels` are read by whatever reads photos; None changes nothing.

    The limit belongs to the process, as Pillow's own does.
    """
    global _default_limit
    before = _default_limit
    if max_pixels is not None:
        _default_limit = max_pixels
    try:
        yield
    finally:
        _default_limit = before


def current_limit() -> int:
    """The limit that holds now, to hand on to another process."""
    return _default_limit


def load_square(
    source: Source, size: int, *, max_pixels: int | None = None
) -> npt.NDArray[np.uint8]:
    """As `read_square`, the pixels alone."""
    return read_square(source, size, max_pixels=max_pixels).pixels


def read_square(source: Source, size: int, *, max_pixels: int | None = None) -> Square:
    """Read a photo and resize its central square. Threads may call this at the same time.

    Args:
        source: any image file that Pillow reads, whatever its ending; of animated files the first
            frame is taken. Or an image stored otherwise.
        size: side of the result in pixels.
        max_pixels: images with more pixels are refused; `MAX_PIXELS` unless `pixel_limit` is set.

    Raises:
        PhotoError: the file is missing, unreadable, truncated, too large or no image.
    """
    if max_pixels is None:
        max_pixels = _default_limit
    try:
        if isinstance(source, Path):
            _check_file(source)
            with source.open("rb") as file:
                return _decoded(file, size, max_pixels)
        stored = source.read()
        if isinstance(stored, bytes):
            return _decoded(BytesIO(stored), size, max_pixels)
        return _square(Image.fromarray(stored), size, max_pixels)
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError(_too_large("", max_pixels)) from None
    except Exception as error:  # Pillow's decoders raise whatever their format's parser does
        raise PhotoError(_reason(error)) from None


def _decoded(file: BinaryIO, size: int, max_pixels: int) -> Square:
    with _pillow_settings(max_pixels):
        _check_container(file.read(64))
        with Image.open(file) as image:
            return _square(image, size, max_pixels)


def _too_large(what: str, max_pixels: int) -> str:
    return f"{what}more than {max_pixels:,} pixels (--max-pixels raises the limit)"


def _square(image: Image.Image, size: int, max_pixels: int) -> Square:
    width, height = image.size
    if width * height > max_pixels:
        raise PhotoError(_too_large(f"{width} x {height} is ", max_pixels))
    if image.format == "EPS":  # Pillow would run Ghostscript on it
        raise PhotoError("a drawing (EPS), not a photo")
    if image.format in ("JPEG", "MPO"):
        # Twice the wanted size keeps the resize below well-sampled. A side may not be scaled
        # below the wanted square, so draft is given the shape of the whole image.
        scale = max(1.0, min(width, height) / (2 * size))
        image.draft(None, (int(width / scale), int(height / scale)))
    alone = image.width * image.height > _ALONE
    with _one_at_a_time if alone else contextlib.nullcontext():
        return Square(np.asarray(_upright_square(image, size)), width, height)


def _upright_square(image: Image.Image, size: int) -> Image.Image:
    image.load()  # before the orientation is looked up: a TIFF is turned upright as it loads
    turn = _TURNS.get(_orientation(image))
    image = _rgb(image)
    if turn is not None:
        image = image.transpose(turn)
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize(
        (size, size),
        Image.Resampling.BILINEAR,
        box=(left, top, left + side, top + side),
        reducing_gap=3.0,
    )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where damaged data do not tell.

    ImageOps.exif_transpose would give up the photo then: it reads and rewrites all of the data.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    """RGB of any mode: 16-bit is scaled, not clipped; transparency is laid on white."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return Image.fromarray(_to_eight_bits(image)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Grey values (H, W) of 16 or 32 bits or floats, with the range they seem to have as 0..255."""
    values = np.asarray(image, dtype=np.float32)
    if image.mode.startswith("I;16"):
        top = 65535.0
    else:
        # Modes "I" and "F" do not tell the range: 0..1, of so many bits, or else up to the largest.
        peak = float(values.max(initial=0, where=np.isfinite(values)))
        usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        top = next((limit for limit in usual if peak <= limit), peak)
    values = np.nan_to_num(np.clip(values, 0, top) / top)  # clipped first: infinity is white
    return np.asarray((values * 255).round(), dtype=np.uint8)


_default_limit = MAX_PIXELS
_one_at_a_time = threading.Lock()
_lock = threading.Lock()
_limits: list[int] = []  # max_pixels of every read under way
_pillow_limit: int | None = None  # Pillow's own, while ours holds

#: The entry that `warnings.filterwarnings` makes.
_SILENCE = ("ignore", None, Warning, re.compile(r"PIL\.|pillow_heif"), 0)


@contextlib.contextmanager
def _pillow_settings(max_pixels: int) -> Iterator[None]:
    """Our pixel limit in place of Pillow's, and no warnings of Pillow's (damaged EXIF, say).

    Both belong to the process, not to a thread: threads that each save and restore them, as
    `warnings.catch_warnings` does, undo one another's. So the first read to begin sets them, and
    the last one to end puts back what was there.
    """
    global _pillow_limit
    with _lock:
        first = not _limits
        if first:
            Image.init()  # all formats: threads that load them side by side can miss some
            _pillow_limit = Image.MAX_IMAGE_PIXELS
        _limits.append(max_pixels)
        # Pillow refuses images of more than twice its limit, also those inside an icon.
        Image.MAX_IMAGE_PIXELS = (max(_limits) + 1) // 2
        if first or _SILENCE not in warnings.filters:
            warnings.filterwarnings("ignore", module=_SILENCE[3].pattern)
    try:
        yield
    finally:
        with _lock:
            _limits.remove(max_pixels)
            if not _limits:
                Image.MAX_IMAGE_PIXELS = _pillow_limit
                with contextlib.suppress(ValueError):  # another part of the program has reset them
                    warnings.filters.remove(_SILENCE)  # type: ignore[attr-defined]


def _check_file(path: Path) -> None:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise PhotoError("a folder, not a photo")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise PhotoError("not a file")
    if status.st_size == 0:
        raise PhotoError("empty file (0 bytes)")


def _check_container(head: bytes) -> None:
    """See to it that HEIC and AVIF can be read; phones send HEIC under other endings too.

    Args:
        head: the first bytes of the file. HEIC and AVIF begin with a box that lists their brands.
    """
    if head[4:8] != b"ftyp":
        return
    brands = head[8 : int.from_bytes(head[:4], "big")]
    if b"avif" in brands or b"avis" in brands:
        if "avif" not in features.modules or not features.check("avif"):
            raise PhotoError("AVIF photos need a newer Pillow: pip install --upgrade pillow")
    elif any(brand in brands for brand in (b"hei", b"hev", b"mif1", b"msf1")):
        try:
            import pillow_heif  # type: ignore[import-not-found, import-untyped, unused-ignore]
        except ImportError:
            raise PhotoError(
                "HEIC photos need an extra: pip install 'fewshot-lite[heic]'"
            ) from None
        with _lock:
            pillow_heif.register_heif_opener()


def _reason(error: Exception) -> str:
    """One short line without the path."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or badly damaged"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, OSError) and error.strerror:  # str(error) would name the path
        return error.strerror.lower()
    text = shorten(str(error), 100, placeholder=" ...")
    if "truncated" in text.lower() or "end of file" in text.lower():
        return "truncated image"
    return f"cannot be decoded ({text or type(error).__name__})"
