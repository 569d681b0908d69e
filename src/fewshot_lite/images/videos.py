"""Frames of videos, turned upright, as squares: what PyAV reads, as photos are read.

    for frame in draw_frames(Path("clip.mp4"), 224):
        print(frame.seconds, frame.square.pixels.shape)

A first look at the packets, undecoded, tells which frames there are, when each is shown and from
where it can be decoded. So frames are drawn evenly over time whatever the rate, and of a long video
no more is decoded than leads from a key frame to each of them. Only the containers named in
`_CONTAINERS` are opened, from bytes that Python reads: no file can name another, or an address.
"""

from __future__ import annotations

import contextlib
import functools
import re
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewshot_lite.core.errors import UsageError
from fewshot_lite.images.kinds import (
    READS_VIDEOS,
    VIDEO_ENDINGS,
    begins_as_photo,
    begins_as_video,
    head_of,
)
from fewshot_lite.images.opening import PhotoError, check_file, current_limit, one_line
from fewshot_lite.images.photo import Source, Square, square_of
from fewshot_lite.images.regions import Box, Region

#: Frames drawn of a clip; `benchmarks/accuracy/videos.py` has the accuracy with others.
FRAMES = 8
#: More are neither drawn of a clip nor points of its time line.
MOST_FRAMES, MOST_POINTS = 1000, 100_000

#: Larger files, and frames of more pixels (8K has 33 million), are refused.
MAX_BYTES, MAX_PIXELS = 4_000_000_000, 40_000_000
#: Packets of a video: ten hours of 50 frames a second.
_MOST_PACKETS = 2_000_000
#: Pixels that are decoded to draw frames: 4,800 frames of 4K, one key frame in ten seconds.
_MOST_DECODED = 40_000_000_000
#: Seconds after which a video that is decoded too slowly is given up.
_MOST_SECONDS = 120.0
#: What is opened, by FFmpeg's names.
_CONTAINERS = "mov,mp4,matroska,webm,avi"

_NOT_A_VIDEO = "not a video, or badly damaged"
#: What FFmpeg's errors are; one that is raised in `_Video.frames` is of one frame.
_ERRORS = (OSError, ValueError, EOFError, ArithmeticError, LookupError)
_TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}

#: One clip at a time is decoded, by as many threads as the decoder takes: memory has a bound.
_one_at_a_time = threading.Lock()


class Drawn(NamedTuple):
    """A frame of a video."""

    seconds: float
    """When it is shown, from the beginning."""
    square: Square


@functools.cache
def can_read() -> bool:
    """Whether PyAV is installed; it is not imported."""
    return find_spec("av") is not None


def check_frames(number: int) -> None:
    """Refuse a number of frames that cannot be drawn.

    Raises:
        UsageError: it is below 1 or above `MOST_FRAMES`.
    """
    if not 1 <= number <= MOST_FRAMES:
        raise UsageError(f"--frames {number}: give a number from 1 to {MOST_FRAMES:,}.")


def is_video(source: Source) -> bool:
    """Whether a source is a video by its ending or first bytes; what begins as a photo is none."""
    photo = source.photo if isinstance(source, Region) else source
    if isinstance(photo, Path):
        ending = photo.suffix.lower()
        if ending in VIDEO_ENDINGS:
            return not begins_as_photo(head_of(photo))
        return not ending and begins_as_video(head_of(photo))
    content = getattr(photo, "content", None)
    if isinstance(content, bytes):
        return begins_as_video(content[:16])
    return Path(getattr(photo, "place", "")).suffix.lower() in VIDEO_ENDINGS


def draw_frames(
    source: Source, size: int, number: int = FRAMES, *, distinct: bool = False
) -> list[Drawn]:
    """Frames drawn evenly over the time of a video.

    Args:
        source: a file, or a video stored otherwise (its bytes), or a region of one, which is then
            the same in each frame.
        size: side of the squares in pixels.
        number: of frames; fewer come of a video that has fewer.
        distinct: leave out frames that are nearly copies of one drawn before.

    Raises:
        PhotoError: no video, or one that cannot be read or costs too much.
    """
    with _one_at_a_time, _opened(source) as video:
        times = video.evenly(number)
        drawn = [
            Drawn(video.seconds(times[row]), square)
            for row, square in video.frames(times, size, _MOST_DECODED)
        ]
    if not drawn:
        raise PhotoError("no frame in it can be decoded")
    return _distinct(drawn) if distinct else drawn


def time_line(source: Source, size: int, every: float) -> Iterator[Drawn]:
    """The frames that are shown at 0, `every`, 2 `every`, ... seconds, as they are needed.

    Args:
        source: as for `draw_frames`.
        size: as for `draw_frames`.
        every: seconds.

    Raises:
        PhotoError: as `draw_frames`, or more than `MOST_POINTS` points.
    """
    with _opened(source) as video:
        for row, square in video.frames(video.at_every(every), size, None):
            yield Drawn(row * every, square)


def as_pixels(drawn: Sequence[Drawn]) -> npt.NDArray[np.uint8]:
    """Frames as the network takes them, uint8 (F, 3, S, S)."""
    return np.stack([frame.square.pixels.transpose(2, 0, 1) for frame in drawn])


def as_seconds(text: str, flag: str = "--every") -> float:
    """Seconds of "0.5", "0.5s", "500ms" or "2min".

    Raises:
        UsageError: it is no such time above 0.
    """
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(ms|s|min|)", text.strip().lower())
    seconds = float(found[1]) * {"ms": 0.001, "min": 60}.get(found[2], 1) if found else 0.0
    if not 0.001 <= seconds < 1e9:
        raise UsageError(f"{flag} {text}: give a time from one frame to the next, e.g. 0.5s.")
    return seconds


class _Video:
    """An opened video; its frames in the order in which they are shown."""

    def __init__(self, container: Any, stream: Any, box: Box | None) -> None:
        self._container, self._stream, self._box = container, stream, box
        self._unit = float(stream.time_base or 1)
        self._limit = min(current_limit(), MAX_PIXELS)
        context = stream.codec_context
        if context is None:
            raise PhotoError("a video of a kind that is not known here, or badly damaged")
        self._check_size(context.width, context.height)
        context.thread_type = "AUTO"
        context.options = {"max_pixels": str(self._limit)}
        times, keys = [], []
        for count, packet in enumerate(_packets(container, stream)):
            if count > _MOST_PACKETS:
                raise PhotoError(f"a video of more than {_MOST_PACKETS:,} frames")
            shown = packet.pts if packet.pts is not None else packet.dts
            if shown is None or packet.size == 0:
                continue
            times.append(shown)
            if packet.is_keyframe:
                keys.append(shown)
        self._times, self._keys = sorted(set(times)), sorted(set(keys))
        if not self._times:
            raise PhotoError("a video without frames")

    def evenly(self, number: int) -> list[int]:
        """Times of so many frames, in the middles of as many equal parts of the whole."""
        start, end = self._times[0], self._times[-1]
        step = (end - start) / number
        wanted = [start + (k + 0.5) * step for k in range(number)]
        return sorted({self._nearest(at) for at in wanted})

    def at_every(self, seconds: float) -> list[int]:
        """Times of the frames that are shown at multiples of so many seconds."""
        start, end = self._times[0], self._times[-1]
        step = seconds / self._unit
        points = int((end - start) / step) + 1
        if points > MOST_POINTS:
            raise PhotoError(f"more than {MOST_POINTS:,} points of time: give a longer --every")
        wanted = [start + k * step for k in range(points)]
        return [self._times[bisect_right(self._times, at) - 1] for at in wanted]

    def seconds(self, shown: int) -> float:
        """Of a frame's time, from the first frame on."""
        return float((shown - self._times[0]) * self._unit)

    def frames(
        self, times: Sequence[int], size: int, most: int | None
    ) -> Iterator[tuple[int, Square]]:
        """The frames of these times, with their places among them; damaged ones are passed over.

        Raises:
            PhotoError: more pixels than `most` were decoded, or it took too long.
        """
        decoder: Iterator[Any] = iter(())
        reached: int | None = None  # time of the frame decoded last
        decoded, until = 0, time.monotonic() + _MOST_SECONDS
        square: Square | None = None
        for row, wanted in enumerate(times):
            if row and wanted == times[row - 1]:  # it is shown for long
                if square is not None:
                    yield row, square
                continue
            key = self._keys[max(0, bisect_right(self._keys, wanted) - 1)] if self._keys else None
            if reached is None or (key is not None and reached < key):
                decoder = self._decoder(key)
            frame = square = None
            try:
                for frame in decoder:
                    reached = frame.pts if frame.pts is not None else wanted
                    decoded += frame.width * frame.height
                    if most is not None and decoded > most:
                        raise PhotoError("too few key frames in a video so large: cut it up")
                    if most is not None and time.monotonic() > until:
                        raise PhotoError(f"takes more than {_MOST_SECONDS:.0f} s to decode")
                    if reached >= wanted:
                        break
                else:
                    frame = None
            except _ERRORS:  # go on behind the damage
                decoder, frame, reached = iter(()), None, wanted
            if frame is not None:
                square = self._square(frame, size)
                yield row, square

    def _decoder(self, key: int | None) -> Iterator[Any]:
        with contextlib.suppress(*_ERRORS):  # what cannot be sought in is at its beginning
            target = self._times[0] if key is None else key
            self._container.seek(target, stream=self._stream, backward=True)
        decoder: Iterator[Any] = self._container.decode(self._stream)
        return decoder

    def _nearest(self, at: float) -> int:
        place = bisect_left(self._times, at)
        near = self._times[max(0, place - 1) : place + 1]
        return int(min(near, key=lambda shown: abs(shown - at)))

    def _square(self, frame: Any, size: int) -> Square:
        self._check_size(frame.width, frame.height)
        clear = any(component.is_alpha for component in frame.format.components)
        pixels = frame.to_ndarray(format="rgba" if clear else "rgb24")
        image = Image.fromarray(np.ascontiguousarray(pixels))
        turn = _TURNS.get(round(frame.rotation) % 360)
        return square_of(image if turn is None else image.transpose(turn), size, self._box)

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._limit:
            raise PhotoError(f"{width} x {height} is more than {self._limit:,} pixels a frame")
        if width < 1 or height < 1:
            raise PhotoError(_NOT_A_VIDEO)


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[_Video]:
    """A video, its packets counted; raises PhotoError, whatever goes wrong within."""
    if not can_read():
        raise PhotoError(READS_VIDEOS)
    photo, box = (source.photo, source.box) if isinstance(source, Region) else (source, None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(one_line())
        file: BinaryIO
        if isinstance(photo, Path):
            check_file(photo, MAX_BYTES)
            file = stack.enter_context(photo.open("rb"))
        else:
            content = photo.read()
            if not isinstance(content, bytes):
                raise PhotoError(_NOT_A_VIDEO)
            file = BytesIO(content)
        try:
            options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
            container = stack.enter_context(_av().open(file, options=options))
            pictures = [s for s in container.streams.video if not _is_cover(s)]
            if not pictures:
                raise PhotoError(
                    "no video in it, only sound" if container.streams else _NOT_A_VIDEO
                )
            yield _Video(container, pictures[0], box)
        except _ERRORS:  # of FFmpeg, in its own words
            raise PhotoError(_NOT_A_VIDEO) from None


@functools.cache
def _av() -> Any:
    import av
    import av.logging

    av.logging.set_libav_level(av.logging.PANIC)  # what is wrong with a file is raised as well
    return av


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream up to the first that cannot be read, as of a file cut off."""
    with contextlib.suppress(*_ERRORS):
        yield from container.demux(stream)


def _is_cover(stream: Any) -> bool:
    """Whether it is the picture of a piece of music."""
    return bool(getattr(stream.disposition, "attached_pic", 0) & stream.disposition)


def _distinct(drawn: Sequence[Drawn]) -> list[Drawn]:
    """The frames that are no copies, or nearly, of one before (`images.fingerprints`)."""
    from fewshot_lite.images.fingerprints import Fingerprints, similar_pairs  # classify needs none

    looks = Fingerprints(len(drawn))
    for row, frame in enumerate(drawn):
        looks.set(row, frame.square.pixels)
    first: dict[bytes, int] = {}
    copies = {row for row in range(len(drawn)) if first.setdefault(looks.key(row), row) != row}
    rows = np.array([row for row in range(len(drawn)) if row not in copies], dtype=np.int64)
    for one, other, _ in similar_pairs(looks, rows, most=len(rows)):
        if one not in copies:  # pairs come sorted, so whether `one` stays is known
            copies.add(other)
    return [frame for row, frame in enumerate(drawn) if row not in copies]


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame that was drawn; an image source (`photo.StoredImage`)."""

    drawn: Drawn
    clip: str
    """Where its video lies."""

    def read(self) -> Square:
        return self.drawn.square

    def __str__(self) -> str:
        return f"{self.clip} at {self.drawn.seconds:.2f} s"


@dataclass(frozen=True, eq=False)
class Unread:
    """A video that could not be read; an image source whose reading says why."""

    clip: str
    reason: str

    def read(self) -> bytes:
        raise PhotoError(self.reason)

    def __str__(self) -> str:
        return self.clip
