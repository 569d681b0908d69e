"""Videos that tests draw: written by PyAV, of a few frames."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from photos import SIZE, draw_photo

#: Frames a second, unless times are given.
RATE = 10


def write_clip(
    path: Path,
    frames: Iterable[Image.Image],
    *,
    codec: str = "mpeg4",
    pixels: str = "yuv420p",
    times: Iterable[float] | None = None,
    options: Mapping[str, str] | None = None,
) -> Path:
    """A video of these frames; `times` in seconds where the rate varies."""
    import av

    images = list(frames)
    shown = list(times) if times is not None else [i / RATE for i in range(len(images))]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=RATE, options=dict(options or {"qscale": "2"}))
        stream.width, stream.height = images[0].size
        stream.pix_fmt = pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        for image, at in zip(images, shown, strict=True):
            kind = "rgba" if image.mode == "RGBA" else "rgb24"
            frame = av.VideoFrame.from_ndarray(np.asarray(image), format=kind)
            frame.pts, frame.time_base = round(at * 1000), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def plain(*colours: str, size: tuple[int, int] = (48, 32), each: int = 5) -> list[Image.Image]:
    """Frames of one colour, `each` of them in turn."""
    return [Image.new("RGB", size, colour) for colour in colours for _ in range(each)]


def looks(number: int, count: int, seed: int = 0) -> list[Image.Image]:
    """Frames of one thing of a class (`photos.draw_photo`), each unlike the one before."""
    return [draw_photo(number, Random(f"clip/{seed}/{number}/{i}"), 2 * SIZE) for i in range(count)]


def draw_clips(folder: Path, clips: Mapping[str, int], *, frames: int = 6, seed: int = 0) -> Path:
    """A folder with one folder per class; its clips are called 0.mp4, 1.mp4 ..."""
    for number, (name, count) in enumerate(clips.items()):
        for i in range(count):
            write_clip(folder / name / f"{i}.mp4", looks(number, frames, 100 * seed + i))
    return folder


def turn_clockwise(path: Path) -> None:
    """Have an MP4 file say that it is to be shown turned by 90 degrees, as telephones do."""
    data = path.read_bytes()
    assert data.count(b"tkhd") == 1
    place = data.index(b"tkhd") + 4 + 4 + 4 * 5 + 8 + 8  # version and flags, times and so on
    one = 0x10000
    assert struct.unpack(">9i", data[place : place + 36])[:2] == (one, 0)
    matrix = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 0x40000000)
    path.write_bytes(data[:place] + matrix + data[place + 36 :])
