"""The formats that Pillow may open, and the cost at which a file is refused.

Pillow reads some forty formats. Several hand a file to another program (Ghostscript for EPS, also
from inside an IPTC container), are read by slow Python, or are never photos: only `FORMATS` are
opened, wherever an image is opened. A file of some kilobytes can claim gigapixels and one of some
megabytes can take minutes, so pixels, bytes and scans are counted before anything is decoded, and
what all threads decode at the same time has a limit in common.
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
from fewshot_lite.images.kinds import RAW_DATA, begins_as_video, is_raw_data

# What Pillow logs of damaged files goes to who asks for it, not to stderr: it is raised as well.
logging.getLogger("PIL").addHandler(logging.NullHandler())

#: Formats that are opened, by Pillow's names, and the module of Pillow that reads each (HEIF is
#: read by another package); what a file is, is told by its first bytes.
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

#: Larger images are refused, and images that take as much memory as one of so many pixels.
MAX_PIXELS = 250_000_000
#: Larger files are refused.
MAX_BYTES = 1_000_000_000

#: Bytes of memory that a pixel takes while it is decoded: Pillow's own four, and those of the
#: decoder (estimates on the safe side).
_PILLOWS_BYTES = 4
_BYTES = {"TIFF": 12, "WEBP": 16, "AVIF": 16, "HEIF": 16, "JPEG2000": 24}
#: Bytes a pixel of a JPEG in several passes: the frequencies of three channels, two bytes each.
_PROGRESSIVE_BYTES = 6
#: Passes over the largest image that a progressive JPEG may take; cameras and editors need 10.
_MOST_SCANS = 20
#: Start-of-scan markers of one photo with a thumbnail and a gain map, in one pass each.
_FEW_SCANS = 4


class PhotoError(Exception):
    """A file that cannot be read as a photo; the message is the reason alone, without the path."""


@contextlib.contextmanager
def pixel_limit(max_pixels: int | None) -> Iterator[None]:
    """Within, images of up to `max_pixels` are read by whatever reads photos; None changes nothing.

    The limit belongs to the process, as Pillow's own does.
    """
    global _limit
    before = _limit
    if max_pixels is not None:
        _limit = max_pixels
    try:
        yield
    finally:
        _limit = before


def current_limit() -> int:
    """The limit that holds now, to hand on to another process."""
    return _limit


@contextlib.contextmanager
def opened(source: Path | BinaryIO) -> Iterator[Image.Image]:
    """An image whose pixels are not decoded yet; decode it within `memory_for`.

    Args:
        source: a file of one of `FORMATS`, whatever its ending.

    Raises:
        PhotoError: no image, one that costs too much (`MAX_PIXELS` unless `pixel_limit` is set), or
            whatever is raised within.
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
    """Wait until the images that other threads decode leave enough memory for this one."""
    global _in_use
    needed = image.width * image.height * _BYTES.get(image.format or "", _PILLOWS_BYTES)
    if image.info.get("progressive") or image.info.get("scans", 0) > _FEW_SCANS:
        width, height = image.info.get("whole", image.size)  # a reduced scale does not help
        needed += width * height * _PROGRESSIVE_BYTES
    most = MAX_PIXELS * _PILLOWS_BYTES
    needed = min(needed, most)  # what needs more, by --max-pixels, is decoded alone
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
    """No messages of libtiff's on stderr: what is wrong with a file is raised as well.

    It has one handler for the process, which Pillow leaves as it is. The library that Pillow has
    loaded is looked for, and never another loaded; where it is not found, messages are printed.
    """
    import ctypes  # of TIFF files alone

    folder = Path(PIL.__file__).parent
    bundled = [*folder.parent.glob("pillow.libs/libtiff*"), *folder.glob(".dylibs/libtiff*")]
    for name in (*map(str, bundled), "libtiff.so.6", "libtiff.so.5"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(name, mode=os.RTLD_NOLOAD).TIFFSetErrorHandler(None)


def check_file(path: Path, most: int = MAX_BYTES) -> None:
    """Refuse what is no file, an empty one, and one of more than so many bytes.

    Raises:
        PhotoError: it is one.
        OSError: it cannot be looked at.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise PhotoError("a folder, not a photo")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise PhotoError("not a file")
    if status.st_size == 0:
        raise PhotoError("empty file (0 bytes)")
    if status.st_size > most:
        raise PhotoError(f"larger than {most // 10**6:,} MB")


def _count_scans(file: BinaryIO) -> int:
    """Start-of-scan markers in a JPEG: hundreds of empty scans are a few kilobytes."""
    file.seek(0)
    count, last = 0, b""
    while part := file.read(2**20):
        count += (last + part).count(b"\xff\xda")
        last = part[-1:]
    file.seek(0)
    return count


def _check_container(head: bytes) -> None:
    """See to it that HEIC and AVIF can be read; phones send HEIC under other endings too.

    Args:
        head: the first bytes of the file. HEIC and AVIF begin with a box that lists their brands.
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
        except ImportError:  # no wheel for this system, e.g. a processor that few people have
            raise PhotoError(
                "HEIC photos need pillow-heif, which cannot be imported here: "
                "pip install pillow-heif, or export the photo as JPEG"
            ) from None
        with _lock:
            pillow_heif.register_heif_opener()


_limit = MAX_PIXELS
_memory = threading.Condition()
_in_use = 0  # bytes that images being decoded take, about
_lock = threading.Lock()
_reads = 0  # under way
_pillow_limit: int | None = None  # Pillow's own, while ours holds
_silence: object = None  # the entry of `warnings.filters` that keeps Pillow quiet


@functools.cache
def _load_plugins() -> None:
    """All at once: threads that load them side by side can miss some."""
    for name in filter(None, FORMATS.values()):
        import_module(f"PIL.{name}ImagePlugin")


@contextlib.contextmanager
def _pillow_settings() -> Iterator[None]:
    """Our pixel limit in place of Pillow's, and no warnings of Pillow's (damaged EXIF, say).

    Both belong to the process, not to a thread: threads that each save and restore them, as
    `warnings.catch_warnings` does, undo one another's. So the first read to begin sets them, and
    the last one to end puts back what was there.
    """
    global _reads, _pillow_limit, _silence
    with _lock:
        if not _reads:
            _load_plugins()
            _pillow_limit = Image.MAX_IMAGE_PIXELS
        _reads += 1
        # Pillow refuses images of more than twice its limit, also those inside an icon.
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
                with contextlib.suppress(ValueError):  # another part of the program has reset them
                    warnings.filters.remove(_silence)  # type: ignore[attr-defined]


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """While entered, an image is read: whatever is raised comes out as PhotoError."""
    try:
        yield
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError(_too_large("", _limit)) from None
    except Exception as error:  # Pillow's decoders raise whatever their format's parser does
        raise PhotoError(_reason(error)) from None


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
