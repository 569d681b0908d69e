"""Draw frames from videos with PyAV, as upright squares like those of photos.

    for frame in draw_frames(Path("clip.mp4"), 224):
        print(frame.seconds, frame.square.pixels.shape)

The packets are scanned first, without decoding, for the time of each frame and the key frames. So
frames are drawn evenly over time at any frame rate, and only the packets from a key frame to each
of them are decoded. Only the containers in `_CONTAINERS` are opened, from bytes that Python reads,
so a file cannot refer to another file or an address.
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
from numbers import Integral
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

#: Frames drawn from a clip; docs/benchmarks.md compares other numbers.
FRAMES = 8
#: Most frames drawn from a clip, and most points of its time line.
MOST_FRAMES, MOST_POINTS = 1000, 100_000

#: Largest file in bytes, and largest frame in pixels (8K has 33 million).
MAX_BYTES, MAX_PIXELS = 4_000_000_000, 40_000_000
#: Most packets of a video: ten hours of 50 frames a second.
_MOST_PACKETS = 2_000_000
#: Most pixels decoded to draw frames: 4,800 frames of 4K, one key frame in ten seconds.
_MOST_DECODED = 40_000_000_000
#: Time limit of decoding a video, in seconds.
_MOST_SECONDS = 120.0
#: FFmpeg's names of the accepted containers.
_CONTAINERS = "mov,mp4,matroska,webm,avi"

_NOT_A_VIDEO = "not a video, or badly damaged"
#: Base classes of FFmpeg's errors; one raised in `_Video.frames` concerns a single frame.
_ERRORS = (OSError, ValueError, EOFError, ArithmeticError, LookupError)
_TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}

#: Clips are decoded one at a time, each by the decoder's own threads, which bounds memory.
_one_at_a_time = threading.Lock()


class Drawn(NamedTuple):
    """A frame of a video."""

    seconds: float
    """Its time from the beginning of the video."""
    square: Square


@functools.cache
def can_read() -> bool:
    """Return whether PyAV is installed, without importing it."""
    return find_spec("av") is not None


def check_frames(number: int) -> None:
    """Raise UsageError for a number of frames below 1 or above `MOST_FRAMES`."""
    if not isinstance(number, Integral) or not 1 <= number <= MOST_FRAMES:
        raise UsageError(f"--frames {number}: give a number from 1 to {MOST_FRAMES:,}.")


def is_video(source: Source) -> bool:
    """Return whether a source is a video by its ending or first bytes, and not a photo by these."""
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
    """Draw frames evenly over the duration of a video.

    Args:
        source: a file, a video stored as bytes, or a region of one, the same in each frame.
        size: side of the squares in pixels.
        number: frames to draw; fewer are returned if the video has fewer.
        distinct: leave out near copies of earlier frames.

    Raises:
        PhotoError: not a video, or it cannot be read or exceeds the limits.
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
    """Yield the frames at 0, `every`, 2 `every`, ... seconds; `source` and `size` as `draw_frames`.

    Raises:
        PhotoError: as `draw_frames`, or there are more than `MOST_POINTS` frames.
    """
    with _opened(source) as video:
        for row, square in video.frames(video.at_every(every), size, None):
            yield Drawn(row * every, square)


def as_pixels(drawn: Sequence[Drawn]) -> npt.NDArray[np.uint8]:
    """Return the pixels of F frames, uint8 (F, 3, S, S)."""
    return np.stack([frame.square.pixels.transpose(2, 0, 1) for frame in drawn])


def as_seconds(text: str, flag: str = "--every") -> float:
    """Parse a duration such as "0.5", "0.5s", "500ms" or "2min".

    Raises:
        UsageError: not a duration, or too short or long.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(ms|s|min|)", text.strip().lower())
    seconds = float(match[1]) * {"ms": 0.001, "min": 60}.get(match[2], 1) if match else 0.0
    if not 0.001 <= seconds < 1e9:
        raise UsageError(f"{flag} {text}: give a time from one frame to the next, e.g. 0.5s.")
    return seconds


class _Video:
    """An opened video."""

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
        """Return the times of the frames nearest the middles of `number` equal parts."""
        start, end = self._times[0], self._times[-1]
        step = (end - start) / number
        return sorted({self._nearest(start + (k + 0.5) * step) for k in range(number)})

    def at_every(self, seconds: float) -> list[int]:
        """Return the times of the frames shown at multiples of `seconds`."""
        start, end = self._times[0], self._times[-1]
        step = seconds / self._unit
        points = int((end - start) / step) + 1
        if points > MOST_POINTS:
            raise PhotoError(f"more than {MOST_POINTS:,} points of time: give a longer --every")
        marks = [start + k * step for k in range(points)]
        return [self._times[bisect_right(self._times, at) - 1] for at in marks]

    def seconds(self, shown: int) -> float:
        """Convert a frame's time to seconds since the first frame."""
        return float((shown - self._times[0]) * self._unit)

    def frames(
        self, times: Sequence[int], size: int, most: int | None
    ) -> Iterator[tuple[int, Square]]:
        """Yield (index in `times`, frame) for each of these times, except for damaged frames.

        Raises:
            PhotoError: more pixels than `most` were decoded, or it took too long.
        """
        decoder: Iterator[Any] = iter(())
        reached: int | None = None  # time of the last decoded frame
        decoded, until = 0, time.monotonic() + _MOST_SECONDS
        square: Square | None = None
        for row, target in enumerate(times):
            if row and target == times[row - 1]:  # the same frame again
                if square is not None:
                    yield row, square
                continue
            key = self._keys[max(0, bisect_right(self._keys, target) - 1)] if self._keys else None
            if reached is None or (key is not None and reached < key):
                decoder = self._decoder(key)
            frame = square = None
            try:
                for frame in decoder:
                    reached = frame.pts if frame.pts is not None else target
                    decoded += frame.width * frame.height
                    if most is not None and decoded > most:
                        raise PhotoError("too few key frames in a video so large: cut it up")
                    if most is not None and time.monotonic() > until:
                        raise PhotoError(f"takes more than {_MOST_SECONDS:.0f} s to decode")
                    if reached >= target:
                        break
                else:
                    frame = None
            except _ERRORS:  # continue after the damage
                decoder, frame, reached = iter(()), None, target
            if frame is not None:
                square = self._square(frame, size)
                yield row, square

    def _decoder(self, key: int | None) -> Iterator[Any]:
        with contextlib.suppress(*_ERRORS):  # an unseekable video is at its beginning
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
    """Open a video and scan its packets; any exception within becomes a PhotoError."""
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
        except _ERRORS:  # FFmpeg's
            raise PhotoError(_NOT_A_VIDEO) from None


@functools.cache
def _av() -> Any:
    import av
    import av.logging

    av.logging.set_libav_level(av.logging.PANIC)  # errors are raised as well
    return av


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets of a stream up to the first unreadable one, as in a truncated file."""
    with contextlib.suppress(*_ERRORS):
        yield from container.demux(stream)


def _is_cover(stream: Any) -> bool:
    """Return whether a video stream is the cover picture of a music file."""
    return bool(getattr(stream.disposition, "attached_pic", 0) & stream.disposition)


def _distinct(drawn: Sequence[Drawn]) -> list[Drawn]:
    """Return the frames that are not copies or near copies of an earlier one."""
    from fewshot_lite.images.fingerprints import Fingerprints, similar_pairs  # classify needs none

    prints = Fingerprints(len(drawn))
    for row, frame in enumerate(drawn):
        prints.set(row, frame.square.pixels)
    first: dict[bytes, int] = {}
    copies = {row for row in range(len(drawn)) if first.setdefault(prints.key(row), row) != row}
    rows = np.array([row for row in range(len(drawn)) if row not in copies], dtype=np.int64)
    for earlier, later, _ in similar_pairs(prints, rows, most=len(rows)):
        if earlier not in copies:  # pairs are sorted, so this is decided already
            copies.add(later)
    return [frame for row, frame in enumerate(drawn) if row not in copies]


@dataclass(frozen=True, eq=False)
class Frame:
    """A drawn frame of the video `clip`; an image source (`photo.StoredImage`)."""

    drawn: Drawn
    clip: str

    def read(self) -> Square:
        return self.drawn.square

    def __str__(self) -> str:
        return f"{self.clip} at {self.drawn.seconds:.2f} s"


@dataclass(frozen=True, eq=False)
class Unread:
    """A video that could not be read; an image source that raises the reason when read."""

    clip: str
    reason: str

    def read(self) -> bytes:
        raise PhotoError(self.reason)

    def __str__(self) -> str:
        return self.clip
