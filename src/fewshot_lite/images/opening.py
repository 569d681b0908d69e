"""Open image files safely: a short list of formats, and limits on the cost of decoding.

Pillow reads some forty formats. Several start another program (Ghostscript for EPS, even inside an
IPTC container), are decoded by slow Python code, or are never photos; only `FORMATS` are opened. A
file of a few kilobytes can claim gigapixels and one of a few megabytes can take minutes to decode,
so pixels, bytes and JPEG scans are checked before decoding, and all threads together share a memory
limit.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from textwrap import shorten
from typing import BinaryIO

import PIL
from PIL import Image, UnidentifiedImageError, features

from fewshot_lite.core.errors import worded
from fewshot_lite.core.files import why_not_there
from fewshot_lite.images.kinds import RAW_DATA, begins_as_video, is_raw_data

# Pillow logs damaged files as well as raising: keep the log off stderr, unless a handler is set.
logging.getLogger("PIL").addHandler(logging.NullHandler())

#: Pillow's names of the accepted formats, and the Pillow module of each (HEIF has another package).
#: A file's format is determined by its first bytes.
FORMATS: Mapping[str, str | None] = {
    "JPEG": "Jpeg",
    "MPO": "Mpo",
    "PNG": "Png",
    "WEBP": "WebP",
    "GIF": "Gif",
    "TIFF": "Tiff",
    "HEIF": None,
    "AVIF": "Avif",
    "BMP": "Bmp",
    "DIB": "Bmp",
    "PPM": "Ppm",
    "TGA": "Tga",
    "ICO": "Ico",
    "JPEG2000": "Jpeg2K",
}

#: Largest image in pixels; fewer for formats that take more memory per pixel.
MAX_PIXELS = 250_000_000
#: Largest file in bytes.
MAX_BYTES = 1_000_000_000

#: Memory per pixel while decoding: Pillow's four bytes, and upper estimates of other decoders'.
_PILLOWS_BYTES = 4
_BYTES = {"TIFF": 12, "WEBP": 16, "AVIF": 16, "HEIF": 16, "JPEG2000": 24}
#: Additional bytes per pixel of a progressive JPEG: coefficients of three channels, two bytes each.
_PROGRESSIVE_BYTES = 6
#: Most scans of a progressive JPEG of the largest size; cameras and editors write up to 10.
_MOST_SCANS = 20
#: Start-of-scan markers of a baseline JPEG with a thumbnail and a gain map.
_FEW_SCANS = 4


class PhotoError(Exception):
    """A file cannot be read as a photo. The message is the reason, without the path."""


@contextlib.contextmanager
def pixel_limit(max_pixels: int | None) -> Iterator[None]:
    """Context that sets the process's pixel limit of all reads; None leaves it unchanged."""
    global _limit
    before = _limit
    if max_pixels is not None:
        _limit = max_pixels
    try:
        yield
    finally:
        _limit = before


def current_limit() -> int:
    """Return the current pixel limit, to pass on to another process."""
    return _limit


@contextlib.contextmanager
def opened(source: Path | BinaryIO) -> Iterator[Image.Image]:
    """Open an image without decoding its pixels; decode it within `memory_for`.

    Args:
        source: a file of one of `FORMATS`, with any ending.

    Raises:
        PhotoError: not an image, or it exceeds the limits (`MAX_PIXELS` unless `pixel_limit` is
            set). Any exception raised within becomes a PhotoError, too.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(one_line())
        if isinstance(source, Path):
            check_file(source)
            file: BinaryIO = stack.enter_context(source.open("rb"))
        else:
            file = source
        stack.enter_context(_pillow_settings())
        head = file.read(64)
        if isinstance(source, Path) and is_raw_data(source, head):
            raise PhotoError(RAW_DATA)
        _check_container(head)
        scans = _count_scans(file) if head.startswith(b"\xff\xd8") else 0
        known = [name for name in FORMATS if name in Image.OPEN]
        image = stack.enter_context(Image.open(file, formats=known))
        if image.format == "TIFF":
            _silence_libtiff()
        check_size(image)
        if scans * image.width * image.height > _MOST_SCANS * _limit:
            raise PhotoError(f"a JPEG in {scans:,} passes, which would take too long to decode")
        image.info["scans"] = scans
        yield image


def check_size(image: Image.Image) -> None:
    """Raise PhotoError if an image has too many pixels for its format."""
    limit = _limit * _PILLOWS_BYTES // _BYTES.get(image.format or "", _PILLOWS_BYTES)
    if image.width * image.height > limit:
        kind = f" of {image.format}" if image.format in _BYTES else ""
        raise PhotoError(_too_large(f"{image.width} x {image.height} is ", limit, kind))


def _too_large(what: str, limit: int, kind: str = "") -> str:
    return worded(f"{what}more than {limit:,} pixels{kind} (--max-pixels raises the limit)")


@contextlib.contextmanager
def memory_for(image: Image.Image) -> Iterator[None]:
    """Context to decode an image in: waits until other threads' images leave enough memory."""
    global _in_use
    needed = image.width * image.height * _BYTES.get(image.format or "", _PILLOWS_BYTES)
    if image.info.get("progressive") or image.info.get("scans", 0) > _FEW_SCANS:
        width, height = image.info.get("whole", image.size)  # draft mode does not reduce these
        needed += width * height * _PROGRESSIVE_BYTES
    most = MAX_PIXELS * _PILLOWS_BYTES
    needed = min(needed, most)  # an image beyond the limit, by --max-pixels, is decoded alone
    with _memory:
        _memory.wait_for(lambda: _in_use + needed <= most)
        _in_use += needed
    try:
        yield
    finally:
        with _memory:
            _in_use -= needed
            _memory.notify_all()


@functools.cache
def _silence_libtiff() -> None:
    """Stop libtiff from printing errors to stderr, as they are raised as well.

    Its error handler is process-wide and Pillow does not set it. Only the library that Pillow has
    loaded is used; if it is not found, libtiff keeps printing.
    """
    import ctypes  # needed for TIFF files only

    folder = Path(PIL.__file__).parent
    bundled = [*folder.parent.glob("pillow.libs/libtiff*"), *folder.glob(".dylibs/libtiff*")]
    for name in (*map(str, bundled), "libtiff.so.6", "libtiff.so.5"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(name, mode=os.RTLD_NOLOAD).TIFFSetErrorHandler(None)


def check_file(path: Path, most: int = MAX_BYTES) -> None:
    """Raise PhotoError unless `path` is a regular, non-empty file of at most `most` bytes."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise PhotoError(why_not_there(error)[0]) from None
    if stat.S_ISDIR(status.st_mode):
        raise PhotoError("a folder, not a photo")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
        raise PhotoError("not a file")
    if status.st_size == 0:
        raise PhotoError("empty file (0 bytes)")
    if status.st_size > most:
        raise PhotoError(f"larger than {most // 10**6:,} MB")


def _count_scans(file: BinaryIO) -> int:
    """Count the start-of-scan markers of a JPEG; hundreds of empty scans take a few kilobytes."""
    file.seek(0)
    count, last = 0, b""
    while part := file.read(2**20):
        count += (last + part).count(b"\xff\xda")
        last = part[-1:]
    file.seek(0)
    return count


def _check_container(head: bytes) -> None:
    """Reject videos and archives, and make sure that HEIC and AVIF can be read.

    Args:
        head: first bytes of the file. HEIC and AVIF begin with a box that lists their brands.
    """
    if begins_as_video(head):
        raise PhotoError("a video, not a photo: give its name the ending .mp4 or .mov, say")
    if head.startswith(b"PK\3\4"):
        raise PhotoError("a ZIP archive, not a photo: unpack it")
    if head[4:8] != b"ftyp":
        return
    brands = head[8 : int.from_bytes(head[:4], "big")]
    if b"avif" in brands or b"avis" in brands:
        if "avif" not in features.modules or not features.check("avif"):
            raise PhotoError("AVIF photos need a newer Pillow: pip install --upgrade pillow")
    elif any(brand in brands for brand in (b"hei", b"hev", b"mif1", b"msf1")):
        try:
            import pillow_heif
        except ImportError:  # no wheel for this system
            raise PhotoError(
                "HEIC photos need pillow-heif, which cannot be imported here: "
                "pip install pillow-heif, or export the photo as JPEG"
            ) from None
        with _lock:
            pillow_heif.register_heif_opener()


_limit = MAX_PIXELS
_memory = threading.Condition()
_in_use = 0  # estimated bytes of the images being decoded
_lock = threading.Lock()
_reads = 0  # in progress
_pillow_limit: int | None = None  # Pillow's pixel limit, to be restored
_silence: object = None  # our entry in `warnings.filters`


@functools.cache
def _load_plugins() -> None:
    """Load Pillow's plugins at once: threads that load them concurrently can miss some."""
    for name in filter(None, FORMATS.values()):
        import_module(f"PIL.{name}ImagePlugin")


@contextlib.contextmanager
def _pillow_settings() -> Iterator[None]:
    """Context with our pixel limit in place of Pillow's, and without Pillow's warnings.

    Both are process-wide: threads that each save and restore them, as `warnings.catch_warnings`
    does, would undo each other's changes. So the first concurrent read sets them, and the last one
    restores them.
    """
    global _reads, _pillow_limit, _silence
    with _lock:
        if not _reads:
            _load_plugins()
            _pillow_limit = Image.MAX_IMAGE_PIXELS
        _reads += 1
        # Pillow rejects images of more than twice its limit, also those inside an icon.
        Image.MAX_IMAGE_PIXELS = (_limit + 1) // 2
        if _reads == 1 or _silence not in warnings.filters:
            warnings.filterwarnings("ignore", module=r"PIL\.|pillow_heif")
            _silence = warnings.filters[0]
    try:
        yield
    finally:
        with _lock:
            _reads -= 1
            if not _reads:
                Image.MAX_IMAGE_PIXELS = _pillow_limit
                with contextlib.suppress(ValueError):  # the program has reset its filters
                    warnings.filters.remove(_silence)  # type: ignore[attr-defined]


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Convert any exception raised within into a PhotoError."""
    try:
        yield
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError(_too_large("", _limit)) from None
    except Exception as error:  # Pillow's decoders raise many types
        raise PhotoError(_reason(error)) from None


def _reason(error: Exception) -> str:
    """Return a short one-line reason without the path."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or badly damaged"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, OSError) and error.strerror:  # str(error) would name the path
        return why_not_there(error)[0]
    text = shorten(str(error), 100, placeholder=" ...")
    if "truncated" in text.lower() or "end of file" in text.lower():
        return "truncated image"
    return f"cannot be decoded ({text or type(error).__name__})"
