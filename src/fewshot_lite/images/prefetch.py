"""Decode batches of photos in threads while the network processes an earlier batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt

from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.images.folders import Skipped
from fewshot_lite.images.opening import PhotoError
from fewshot_lite.images.photo import NO_WHITES, Source, Square, Whites
from fewshot_lite.images.videos import FRAMES, as_pixels, draw_frames, is_video


@dataclass(frozen=True)
class DecodedBatch:
    """A batch of photos and videos, decoded."""

    paths: tuple[Source, ...]
    problems: dict[int, str]
    """Position in `paths` of an unreadable item -> reason."""
    pixels: npt.NDArray[np.uint8]
    """(B, 3, S, S), the readable photos in order, and the frames of each video in its place."""
    videos: dict[int, tuple[float, ...]] = field(default_factory=dict)
    """Position in `paths` of a video -> the times of its frames in seconds."""

    def rows(self) -> dict[int, slice]:
        """Map the position in `paths` of each readable item to its rows of `pixels`."""
        rows, row = {}, 0
        for position in range(len(self.paths)):
            if position not in self.problems:
                rows[position] = slice(row, row + len(self.videos.get(position, (0.0,))))
                row = rows[position].stop
        return rows


def decoded_batches(
    paths: Iterable[Source | Skipped],
    size: int,
    *,
    batch: int = 64,
    ahead: int = 2,
    workers: int | None = None,
    look: Callable[[int, Square], None] | None = None,
    frames: int = FRAMES,
    whites: Whites = NO_WHITES,
) -> Generator[DecodedBatch]:
    """Decode photos and videos in batches, ahead of the consumer.

    At most `(1 + ahead) * batch` paths are in progress, so memory does not depend on their number.

    Args:
        paths: sources, and skipped files, which are reported but not opened.
        size: side S of the images.
        batch: paths per batch.
        ahead: batches that are decoded beyond the one yielded last.
        workers: number of threads; `decoding.worker_count()` by default.
        look: as for `decoding.decode_pixels`, with positions in `paths`.
        frames: number drawn from each video, which counts as one path.
        whites: white levels, as for `read_square`.
    """
    rest = iter(paths)
    waiting: deque[Future[DecodedBatch]] = deque()
    pool = ThreadPoolExecutor(max_workers=max(1, ahead))
    first = 0
    try:
        while True:
            while len(waiting) <= ahead and (chunk := tuple(islice(rest, batch))):
                options = first, workers, look, frames, whites
                waiting.append(pool.submit(_decode_batch, chunk, size, *options))
                first += len(chunk)
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_batch(
    chunk: tuple[Source | Skipped, ...],
    size: int,
    first: int,
    workers: int | None,
    look: Callable[[int, Square], None] | None,
    frames: int,
    whites: Whites,
) -> DecodedBatch:
    problems = {i: item.reason for i, item in enumerate(chunk) if isinstance(item, Skipped)}
    to_read = [i for i in range(len(chunk)) if i not in problems]
    paths = tuple(item.path if isinstance(item, Skipped) else item for item in chunk)
    clips = [i for i in to_read if is_video(paths[i])]
    photos = [i for i in to_read if i not in clips] if clips else to_read
    callback = None if look is None else (lambda i, square: look(first + photos[i], square))
    sources = [paths[i] for i in photos]
    pixels, unreadable = decode_pixels(sources, size, workers=workers, look=callback, whites=whites)
    good = [i for i in range(len(photos)) if i not in unreadable]
    problems |= {photos[i]: reason for i, reason in unreadable.items()}
    if len(good) < len(photos):
        pixels = pixels[good]
    if not clips:
        return DecodedBatch(paths, problems, pixels)
    rows = {photos[i]: pixels[row : row + 1] for row, i in enumerate(good)}
    times = {}
    for i in clips:
        try:
            drawn = draw_frames(paths[i], size, frames)
        except PhotoError as error:
            problems[i] = str(error)
        else:
            times[i] = tuple(frame.seconds for frame in drawn)
            rows[i] = as_pixels(drawn)
    in_order = [rows[i] for i in sorted(rows)]
    return DecodedBatch(paths, problems, np.concatenate(in_order) if rows else pixels, times)
