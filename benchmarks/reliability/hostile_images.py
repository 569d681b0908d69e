"""Read files that were made to cost memory or time, or to start a program: what does each cost?

    python -m benchmarks.reliability.hostile_images

Each file of at most 10 MB (or sparse, of a gigabyte and more) is read as `classify` reads a photo,
in a process of its own. Wrong is what is neither read nor refused in one line, takes more than 2 GB
or 20 seconds of processor time, or starts a program. Tests take what puts files together, too.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import Row, arguments, emit
from benchmarks.trials import summary, trial_alone
from fewshot_lite.images.photo import read_square

#: Names and contents of files.
Files = Iterator[tuple[str, bytes]]
#: Side of the largest square of at most 250 megapixels.
SIDE = 15_811


def encoded(image: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
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


def picture() -> Image.Image:
    spots = np.random.default_rng(3).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(spots).resize((400, 300), Image.Resampling.NEAREST)


def zeros(length: int) -> bytes:
    """So many zeros, compressed; of one block that is repeated, which takes no time to make."""
    block = 2**20
    packer, end = zlib.compressobj(9, wbits=-15), zlib.compressobj(9, wbits=-15)
    part = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    last = end.compress(bytes(length % block)) + end.flush()
    # Adler-32 of n zeros: the low half is 1, the high half n.
    return b"\x78\xda" + part * (length // block) + last + struct.pack(">HH", length % 65521, 1)


def claimed_sizes() -> Files:
    """Some bytes that claim gigapixels."""
    for width, height in ((2**31 - 1, 1), (1, 2**31 - 1), (65_535, 65_535), (20_000, 12_500)):
        yield f"{width}x{height}.png", png(width, height, zeros(1000))
    yield "claimed.ppm", b"P6 15811 15811 255\n" + bytes(1000)
    yield "claimed.tga", struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, SIDE, SIDE, 32, 8)
    yield "claimed.ico", icon(png(60_000, 60_000, zeros(1000)))
    yield "frame.gif", gif((1, 1), (15_000, 15_000))


def many_pixels() -> Files:
    """As many pixels as are allowed, out of a megabyte or less."""
    forms = {"grey": (8, 0, 1), "rgb": (8, 2, 3), "rgba": (8, 6, 4), "deep": (16, 0, 2)}
    for name, (bits, colours, width) in forms.items():
        yield f"{name}.png", png(SIDE, SIDE, zeros(SIDE * (1 + width * SIDE)), (bits, colours))
    palette = chunk(b"PLTE", b"\xff\0\0") + chunk(b"tRNS", b"\0")
    yield "palette.png", png(SIDE, SIDE, zeros(SIDE * (1 + SIDE)), (8, 3), palette)
    for width, height in ((250_000, 1_000), (5_000_000, 2), (1, 5_000_000)):
        yield f"thin{width}.png", png(width, height, zeros(height * (1 + 3 * width)))
    values = {"float": (3, 32, 9_100), "whole": (2, 32, 9_100), "deep": (1, 16, SIDE)}
    for name, (form, bits, side) in values.items():
        yield f"{name}.tif", tiff(side, zeros(side * side * bits // 8), bits, form)
    for kind, side in (("WEBP", 7_900), ("AVIF", 7_900), ("JPEG2000", 6_400), ("TIFF", 9_100)):
        yield f"large {kind}", encoded(Image.new("RGB", (side, side), "red"), kind)
    red = Image.new("RGB", (SIDE, SIDE), "red")
    jpegs = [encoded(red, "JPEG", quality=1, progressive=late) for late in (False, True)]
    del red  # or it would count as memory of what reads them
    yield from zip(("large.jpg", "heavy.jpg"), jpegs, strict=True)


def tiff(side: int, data: bytes, bits: int, form: int) -> bytes:
    """One strip of deflated values; `form` is TIFF's sample format."""
    tags = [(256, side), (257, side), (258, bits), (259, 8), (262, 1), (273, 200), (277, 1)]
    tags += [(278, side), (279, len(data)), (339, form)]
    return tiff_head(tags).ljust(200, b"\0") + data


def scans(side: int, number: int) -> bytes:
    """A progressive JPEG of one component whose scans are all empty."""
    blocks = ((side + 7) // 8) ** 2
    runs = -(-blocks // 16_384)
    bits = ("0" * 15 * runs).ljust(-(-15 * runs // 8) * 8, "1")
    empty = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    table = struct.pack(">H", 20) + b"%c" + b"\1" + bytes(15) + b"%c"
    start = b"\xff\xda" + struct.pack(">HB", 8, 1)
    out = b"\xff\xd8\xff\xdb" + struct.pack(">H", 67) + b"\0" + b"\1" * 64
    out += b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, side, side, 1) + b"\1\x11\0"
    out += b"\xff\xc4" + table % (0, 0) + b"\xff\xc4" + table % (0x10, 0xE0)
    out += start + b"\1\0\0\0\0" + bytes(blocks // 8 + 1)
    return out + (start + b"\1\0\1\x3f\0" + empty) * number + b"\xff\xd9"


def slow_to_read() -> Files:
    """Much work out of few bytes."""
    for side, numbers in ((4_000, (100, 3_000, 12_000)), (15_800, (19, 300))):
        for number in numbers:
            yield f"{number} scans of {side}.jpg", scans(side, number)
    jpeg, dot = encoded(picture(), "JPEG", quality=90), zlib.compress((b"\0" + b"\1" * 48) * 16)
    first = jpeg.index(b"\xff\xda")
    head = jpeg[first : first + 2 + int.from_bytes(jpeg[first + 2 : first + 4], "big")]
    one = head[:2] + b"\0\x08\1" + head[5:7] + head[-3:]
    yield "sequential scans.jpg", jpeg[:first] + one * 500_000
    yield "fill.jpg", b"\xff\xd8" + b"\xff" * 9_000_000 + jpeg[2:]
    yield "segments.jpg", jpeg[:2] + b"\xff\xe0\0\2" * 2_000_000 + jpeg[2:]
    text = zlib.compress(bytes(60_000_000), 9)
    xmp = b"XML:com.adobe.xmp\0\1\0\0\0"
    for kind, start in ((b"zTXt", b"C\0\0"), (b"iTXt", xmp), (b"iCCP", b"i\0\0")):
        yield f"{kind.decode()}.png", png(16, 16, dot, extra=chunk(kind, start + text))
    yield "chunks.png", png(16, 16, dot, extra=chunk(b"aaAa", b"") * 700_000)
    yield "rows.png", png(16, 16, zeros(900_000_000))
    screen = b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0xF0, 0, 0) + bytes(6)
    yield "comments.gif", screen + (b"\x21\xfe" + b"\xff" + b"A" * 255 + b"\0") * 35_000 + b";"
    yield "plain.ppm", b"P3 1200 1200 255\n" + b"1 " * 4_320_000
    yield "digits.ppm", b"P3 " + b"9" * 5_000_000 + b" 1 255\n"
    info = struct.pack("<LllHHLLllLL", 40, 15_000, 15_000, 1, 8, 1, 0, 0, 0, 0, 0)
    head = b"BM" + struct.pack("<LHHL", 0, 0, 0, 1078) + info
    yield "runs.bmp", head + bytes(1024) + b"\0\0" * 4_000_000
    tags = [(256, 16), (257, 16), (258, 8), (259, 1), (262, 1), (277, 1)]
    yield "circle.tif", tiff_head([*tags, (330, 8), (34665, 8), (34853, 8)], following=8)
    yield "tags.tif", tiff_head([(tag, 8) for tag in range(65_535)])


def other_formats() -> Files:
    """What Pillow would open and no photo is, or what would start a program."""
    for kind in ("EPS", "PDF", "PCX", "SGI", "IM", "MSP", "XBM", "ICNS", "SPIDER", "DDS"):
        mode = {"MSP": "1", "XBM": "1", "SPIDER": "F"}.get(kind, "RGB")
        yield f"{kind}.jpg", encoded(picture().convert(mode), kind)
    drawing = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n"
    side = struct.pack(">H", 64)
    fields = ((3, 60, b"\1\0"), (3, 20, side), (3, 30, side), (3, 120, b"\5"), (8, 10, drawing))
    packed = (bytes([28, a, b]) + struct.pack(">H", len(data)) + data for a, b, data in fields)
    yield "EPS in IPTC.jpg", b"".join(packed) + bytes(5)
    image = b'<image href="file:///etc/passwd"/>'
    yield "drawing.jpg", b'<svg xmlns="http://www.w3.org/2000/svg">' + image + b"</svg>"
    yield "qoi.jpg", b"qoif" + struct.pack(">LLBB", SIDE, SIDE, 4, 0) + b"\xfd" * 4_100_000
    yield "psd.jpg", b"8BPS" + struct.pack(">H6xHLLHH", 1, 3, SIDE, SIDE, 8, 3) + bytes(2000)
    box = struct.pack("<hhhhH", 0, 0, 100, 100, 72)
    yield "metafile.jpg", b"\xd7\xcd\xc6\x9a\0\0" + box + bytes(130)


def damaged(seed: int) -> Files:
    """Every format that is read, with bits flipped or cut short."""
    import pillow_heif

    kinds = ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "BMP", "ICO", "TGA")
    files = {kind: encoded(picture(), kind) for kind in kinds}
    files["progressive"] = encoded(picture(), "JPEG", progressive=True)
    files["LZW"] = encoded(picture(), "TIFF", compression="tiff_lzw")
    files["HEIF"] = encoded(pillow_heif.from_pillow(picture()), "HEIF")
    for kind, data in files.items():
        draw = Random(f"{seed} {kind}")
        for number in range(4):
            changed = bytearray(data)
            for _ in range(10):
                changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            yield f"flipped {kind} {number}", bytes(changed)
            yield f"cut {kind} {number}", data[: len(data) * (number + 1) // 5]


def sparse() -> Files:
    """Halves of photos, to be lengthened to the size in their name without taking room on disk."""
    for kind in ("JPEG", "PNG", "TIFF", "BMP"):
        data = encoded(picture(), kind)
        for size in (990_000_000, 30_000_000_000):
            yield f"sparse {kind} {size}", data[: len(data) // 2]


def read(folder: Path, name: str, data: bytes) -> Row:
    """What comes of one file."""
    path = folder / name
    path.write_bytes(data)
    if name.startswith("sparse"):
        os.truncate(path, int(name.split()[-1]))
    row = trial_alone(name, partial(read_square, path, 224))
    path.unlink()
    return row


def main() -> None:
    args = arguments(__doc__, only=("", "a part of the names of files to read"), seed=0)
    Image.init()
    families = {
        "claimed sizes": claimed_sizes(),
        "many pixels": many_pixels(),
        "slow to read": slow_to_read(),
        "other formats": other_formats(),
        "damaged": damaged(args.seed),
        "sparse": sparse(),
    }
    found: Row = {}
    with tempfile.TemporaryDirectory() as folder:
        for family, files in families.items():
            chosen = (file for file in files if args.only in file[0])
            found[family] = summary(read(Path(folder), *file) for file in chosen)
    emit("hostile_images", vars(args), found)


if __name__ == "__main__":
    main()
