"""Forty files that no reader of photos should trip over, each bad in its own way.

PYTHONPATH=. python tests/hostile.py FOLDER   # to look at them, or to feed them to another program
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.reliability import hostile_images as formats

#: Pixels that a tiny file claims to have.
_CLAIMED = (50_000, 50_000)


def write_hostile(folder: Path) -> list[Path]:
    """Write the files into a folder and return those that must be named, one by one.

    Each looks like a photo by its ending, but a few that do not, or are folders or links.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    jpeg, png = _encoded("JPEG", quality=90), _encoded("PNG")
    gif, tiff, webp, bmp = (_encoded(kind) for kind in ("GIF", "TIFF", "WEBP", "BMP"))
    scan = jpeg.index(b"\xff\xda")  # where the compressed pixels begin
    text = b"Comment\0\0" + zlib.compress(b" " * 70_000_000, 9)
    contents = {
        # cut short
        "jpeg header only.jpg": jpeg[:20],
        "jpeg before its pixels.jpg": jpeg[:scan],
        "jpeg half.jpg": jpeg[: len(jpeg) // 2],
        "jpeg without its end.jpg": jpeg[: len(jpeg) * 9 // 10],
        "png signature only.png": png[:8],
        "png half.png": png[: len(png) // 2],
        "gif half.gif": gif[: len(gif) // 2],
        "tiff half.tif": tiff[: len(tiff) // 2],
        "webp half.webp": webp[: len(webp) // 2],
        "bmp half.bmp": bmp[: len(bmp) // 2],
        # nothing, or something else
        "empty.jpg": b"",
        "zeros.jpg": bytes(5000),
        "noise.jpg": np.random.default_rng(0).bytes(5000),
        "text.jpg": b"Dear diary,\n" * 99,
        "page.jpg": b"<!doctype html><img src='x.jpg'>",
        "archive.jpg": _zip({"a.txt": b"text"}),
        "pickle.jpg": pickle.dumps({"a": [1, 2, 3]}),
        "drawing.png": b"<svg xmlns='http://www.w3.org/2000/svg'><rect width='9'/></svg>",
        "program.jpg": b"\x7fELF\x02\x01\x01" + bytes(99),
        "film.heic": b"\0\0\0\x1cftypisom\0\0\2\0isomiso2mp41" + bytes(99),
        "document.jpg": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\n%%EOF",
        "postscript.jpg": _encoded("EPS"),
        # bombs: pixels out of nothing
        "bomb.png": formats.png(*_CLAIMED, zlib.compress(bytes(100))),
        "bomb.tif": _tiff(*_CLAIMED),
        "bomb.gif": formats.gif(*[(65_000, 65_000)] * 2),
        "bomb.ico": formats.icon(formats.png(*_CLAIMED, zlib.compress(bytes(100)))),
        "bomb.bmp": bmp[:18] + struct.pack("<ll", *_CLAIMED) + bmp[26:],
        "bomb.jpg": _with_size(jpeg, 65_000, 65_000),
        "text bomb.png": formats.png(
            8, 8, zlib.compress(bytes(200)), extra=formats.chunk(b"zTXt", text)
        ),
        # damaged inside
        "jpeg with broken tables.jpg": _with_broken_tables(jpeg),
        "jpeg of no size.jpg": _with_size(jpeg, 0, 0),
        "png with wrong pixels.png": formats.png(64, 64, b"not compressed"),
        "png of no size.png": formats.png(0, 0, zlib.compress(b"")),
        "tiff in a circle.tif": struct.pack("<2sHLHL", b"II", 42, 8, 0, 8),
        "webp of wrong length.webp": webp[:4] + b"\xff\xff\xff\x7f" + webp[8:40],
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "folder.jpg").mkdir()  # a folder may have such a name; this one's content may not
    (folder / "folder.jpg" / "inside.jpg").write_bytes(b"no photo")
    (folder / "nowhere.jpg").symlink_to(folder / "gone.jpg")
    (folder / "itself.jpg").symlink_to(folder / "itself.jpg")
    (folder / "above").symlink_to(folder)
    bad = [folder / name for name in contents]
    bad += [folder / "folder.jpg" / "inside.jpg"]
    bad += [folder / name for name in ("nowhere.jpg", "itself.jpg", "above")]
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jpg")
        bad.append(folder / "pipe.jpg")
    if sys.platform == "linux":  # elsewhere names are Unicode
        odd = folder / os.fsdecode(b"no \xff unicode\n.jpg")
        odd.write_bytes(b"no photo")
        bad.append(odd)
    if hasattr(os, "geteuid") and os.geteuid() != 0:  # root may read all
        (folder / "locked.jpg").write_bytes(jpeg)
        (folder / "locked.jpg").chmod(0)
        bad.append(folder / "locked.jpg")
    return bad


def write_odd(folder: Path) -> list[Path]:
    """Write files that look bad and can be read all the same, and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    jpeg, png = _encoded("JPEG", quality=90), _encoded("PNG")
    contents = {
        "PNG NAMED.JPG": png,
        "jpeg named.png": jpeg,
        "wrong exif.jpg": _encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"),
        "film frame.jpg": _without_tables(jpeg),  # as in Motion JPEG, where all know the tables
        "wrong pixels.jpg": jpeg[:-400] + bytes(range(1, 200)) + jpeg[-201:],
        "junk behind.jpg": jpeg + b"<?php" * 999,
        "archive behind.jpg": jpeg + _zip({"a.jpg": jpeg}),
        "one pixel.png": formats.png(1, 1, zlib.compress(b"\0\1\2\3")),
        "a line.png": formats.png(5000, 1, zlib.compress(bytes(15_001))),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in contents]


def _picture() -> Image.Image:
    spots = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(spots).resize((96, 64), Image.Resampling.BICUBIC)


def _encoded(kind: str, **options: object) -> bytes:
    return formats.encoded(_picture(), kind, **options)


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _tiff(width: int, height: int) -> bytes:
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1)]
    return formats.tiff_head([*tags, (273, 8), (277, 1), (278, height), (279, 100)])


def _with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header has another size."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def _with_broken_tables(jpeg: bytes) -> bytes:
    """A JPEG whose Huffman tables promise more codes than there can be."""
    at = jpeg.index(b"\xff\xc4") + 5
    return jpeg[:at] + b"\xff" * 16 + jpeg[at + 16 :]


def _without_tables(jpeg: bytes) -> bytes:
    """A JPEG without its Huffman tables."""
    kept, at = jpeg[:2], 2
    while jpeg[at + 1] != 0xDA:
        length = 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] != 0xC4:
            kept += jpeg[at : at + length]
        at += length
    return kept + jpeg[at:]


if __name__ == "__main__":
    for path in [*write_hostile(Path(sys.argv[1])), *write_odd(Path(sys.argv[1]))]:
        print(ascii(str(path)))
