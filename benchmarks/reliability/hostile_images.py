"""Read files that were made to cost memory or time, or to start a program: what does each cost?

    python -m benchmarks.reliability.hostile_images

Each file of at most 10 MB (or sparse, of a gigabyte) is read as `classify` reads a photo, in a
process of its own. Counted are those that were read or refused in one line, ended otherwise, took
more than 2 GB or 20 seconds of processor time, or started a program.
"""

from __future__ import annotations

import io
import multiprocessing
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from benchmarks.common import Row, arguments, emit
from benchmarks.image_formats import chunk, encoded, gif, icon, png, tiff_head
from fewshot_lite.images.opening import PhotoError
from fewshot_lite.images.photo import read_square

#: What a file may cost: bytes of memory, seconds of processor time.
LARGE, SLOW = 2 * 2**30, 20
#: Side of the largest square of at most 250 megapixels.
SIDE = 15_811
#: Seconds that a file is waited for, however busy the machine is.
PATIENCE = 300


def picture() -> Image.Image:
    spots = np.random.default_rng(3).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(spots).resize((400, 300), Image.Resampling.NEAREST)


def zeros(length: int) -> bytes:
    """So many zeros, compressed; of one block that is repeated, which takes no time to make."""
    block = 2**20
    packer = zlib.compressobj(9, wbits=-15)
    part = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, wbits=-15)
    last = end.compress(bytes(length % block)) + end.flush()
    # Adler-32 of n zeros: the low half is 1, the high half n.
    return b"\x78\xda" + part * (length // block) + last + struct.pack(">HH", length % 65521, 1)


def claimed_sizes() -> Iterator[tuple[str, bytes]]:
    """Some bytes that claim gigapixels."""
    for width, height in ((2**31 - 1, 1), (1, 2**31 - 1), (65_535, 65_535), (20_000, 12_500)):
        yield f"{width}x{height}.png", png(width, height, zeros(1000))
    yield "claimed.ppm", b"P6 15811 15811 255\n" + bytes(1000)
    yield "claimed.tga", struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, SIDE, SIDE, 32, 8)
    yield "claimed.ico", icon(png(60_000, 60_000, zeros(1000)))
    yield "frame.gif", gif((1, 1), (15_000, 15_000))


def many_pixels() -> Iterator[tuple[str, bytes]]:
    """As many pixels as are allowed, out of a megabyte or less."""
    forms = {"grey": (8, 0, 1), "rgb": (8, 2, 3), "rgba": (8, 6, 4), "deep": (16, 0, 2)}
    for name, (bits, colours, width) in forms.items():
        yield f"{name}.png", png(SIDE, SIDE, zeros(SIDE * (1 + width * SIDE)), (bits, colours))
    palette = chunk(b"PLTE", b"\xff\0\0") + chunk(b"tRNS", b"\0")
    yield "palette.png", png(SIDE, SIDE, zeros(SIDE * (1 + SIDE)), (8, 3), palette)
    for width, height in ((250_000, 1_000), (5_000_000, 2), (1, 5_000_000)):
        yield f"thin{width}.png", png(width, height, zeros(height * (1 + 3 * width)))
    for name, form, bits, side in (
        ("float", 3, 32, 9_100),
        ("whole", 2, 32, 9_100),
        ("deep", 1, 16, SIDE),
    ):
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
    empty = int("0" * 15 * runs + "1" * (-15 * runs % 8) or "0", 2).to_bytes(
        -(-15 * runs // 8), "big"
    )
    table = struct.pack(">H", 20) + b"%c" + b"\1" + bytes(15) + b"%c"
    out = b"\xff\xd8\xff\xdb" + struct.pack(">H", 67) + b"\0" + b"\1" * 64
    out += b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, side, side, 1) + b"\1\x11\0"
    out += b"\xff\xc4" + table % (0, 0) + b"\xff\xc4" + table % (0x10, 0xE0)
    out += b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\1\0\0\0\0" + bytes(blocks // 8 + 1)
    scan = (
        b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\1\0\1\x3f\0" + empty.replace(b"\xff", b"\xff\0")
    )
    return out + scan * number + b"\xff\xd9"


def slow_to_read() -> Iterator[tuple[str, bytes]]:
    """Much work out of few bytes."""
    for side, number in [(4_000, n) for n in (100, 3_000, 12_000)] + [
        (15_800, n) for n in (19, 300)
    ]:
        yield f"{number} scans of {side}.jpg", scans(side, number)
    jpeg, dot = encoded(picture(), "JPEG", quality=90), zlib.compress((b"\0" + b"\1" * 48) * 16)
    first = jpeg.index(b"\xff\xda")
    head = jpeg[first : first + 2 + int.from_bytes(jpeg[first + 2 : first + 4], "big")]
    one = head[:4] + b"\1" + head[5:7] + head[-3:]
    yield "sequential scans.jpg", jpeg[:first] + (one[:2] + b"\0\x08" + one[4:]) * 500_000
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


def other_formats() -> Iterator[tuple[str, bytes]]:
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


def damaged(seed: int) -> Iterator[tuple[str, bytes]]:
    """Every format that is read, with bits flipped or cut short."""
    kinds = ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "BMP", "ICO", "TGA"]
    files = {kind: encoded(picture(), kind) for kind in kinds}
    files["progressive"] = encoded(picture(), "JPEG", progressive=True)
    files["LZW"] = encoded(picture(), "TIFF", compression="tiff_lzw")
    files["HEIF"] = heif()
    for kind, data in files.items():
        draw = Random(f"{seed} {kind}")
        for number in range(4):
            changed = bytearray(data)
            for _ in range(10):
                changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            yield f"flipped {kind} {number}", bytes(changed)
            yield f"cut {kind} {number}", data[: len(data) * (number + 1) // 5]


def heif() -> bytes:
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture()).save(buffer)
    return buffer.getvalue()


def sparse(folder: Path) -> Iterator[str]:
    """Files of a gigabyte that take no room on a disk."""
    for kind in ("JPEG", "PNG", "TIFF", "BMP"):
        data = encoded(picture(), kind)
        for size in (990_000_000, 30_000_000_000):
            path = folder / f"sparse {kind} {size}"
            path.write_bytes(data[: len(data) // 2])
            with path.open("r+b") as file:
                file.truncate(size)
            yield path.name


def cost(path: Path, results: Connection) -> None:
    """Read one file in a process of its own and tell what came of it."""
    programs: list[str] = []
    sys.addaudithook(
        lambda event, _: (
            programs.append(event) if event in ("subprocess.Popen", "os.system") else None
        )
    )
    begun = time.process_time()
    try:
        outcome = f"read, {read_square(path, 224).pixels.mean():.0f}"
    except PhotoError as error:
        outcome = f"refused: {error}"
    except BaseException as error:
        outcome = f"uncaught: {error!r}"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() - begun + children.ru_utime
    results.send({"outcome": outcome, "bytes": memory, "seconds": seconds, "programs": programs})


def measure(path: Path) -> Row:
    """`cost` of a file, or how the process ended."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=cost, args=(path, sender))
    process.start()
    sender.close()
    try:
        result: Row = receiver.recv() if receiver.poll(PATIENCE) else {}
    except EOFError:
        result = {}
    process.kill()
    process.join()
    if not result:
        result = {
            "outcome": f"ended by {process.exitcode}",
            "bytes": 0,
            "seconds": PATIENCE,
            "programs": [],
        }
    return {"file": path.name, "kilobytes": path.stat().st_size // 1000, **result}


def main() -> None:
    args = arguments(__doc__, only=("", "a part of the names of files to read"), seed=0)
    Image.init()
    families = {
        "claimed sizes": claimed_sizes(),
        "many pixels": many_pixels(),
        "slow to read": slow_to_read(),
        "other formats": other_formats(),
        "damaged": damaged(args.seed),
    }
    found: dict[str, list[Row]] = {family: [] for family in families}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for family, files in families.items():
            for name, data in files:
                if args.only in name:
                    path = folder / name
                    path.write_bytes(data)
                    found[family].append(measure(path))
                    path.unlink()
        names = [name for name in sparse(folder) if args.only in name]
        found["sparse"] = [measure(folder / name) for name in names]
    emit("hostile_images", vars(args), {family: summary(of) for family, of in found.items()})


def summary(results: list[Row]) -> Row:
    """Counts of one family, and all that should not be."""

    def bad(result: Row) -> bool:
        ended = not result["outcome"].startswith(("read", "refused"))
        costly = result["bytes"] > LARGE or result["seconds"] > SLOW
        return ended or costly or bool(result["programs"])

    return {
        "files": len(results),
        "outcomes": Counter(
            result["outcome"].partition(",")[0].partition(":")[0] for result in results
        ),
        "most_gigabytes": max((result["bytes"] for result in results), default=0) / 1e9,
        "most_seconds": max((result["seconds"] for result in results), default=0),
        "not_as_promised": [result for result in results if bad(result)],
    }


if __name__ == "__main__":
    main()
