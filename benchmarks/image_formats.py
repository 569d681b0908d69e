"""Files of photos put together byte by byte, so that they can be wrong; tests take them, too."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png(
    width: int, height: int, pixels: bytes, form: tuple[int, int] = (8, 2), extra: bytes = b""
) -> bytes:
    """A PNG of compressed rows; `form` is bits and colour type, `extra` chunks before the rows."""
    header = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, *form, 0, 0, 0))
    body = extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def icon(image: bytes) -> bytes:
    """An ICO around a PNG."""
    return struct.pack("<HHHBBBBHHLL", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(image), 22) + image


def gif(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    """A GIF of one frame without pixels."""
    head = struct.pack("<HHBBB", *screen, 0xF0, 0, 0) + bytes(6)
    return b"GIF89a" + head + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x44\x01\0;"


def tiff_head(tags: list[tuple[int, int]], following: int = 0) -> bytes:
    """Of one directory of whole numbers, and the place of the next."""
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags)
    head = struct.pack("<2sHLH", b"II", 42, 8, len(tags))
    return head + entries + struct.pack("<L", following)
