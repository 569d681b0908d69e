"""Decode many photos in parallel, without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from fewshot_lite.images.photo import NO_WHITES, PhotoError, Source, Square, Whites, read_square


def worker_count() -> int:
    """Return the number of decoding threads: one per usable core, and two more that wait for disks.

    Pillow releases the interpreter lock while it decodes and resizes, so threads suffice.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) + 2
    return (os.cpu_count() or 1) + 2


def digest_of(pixels: npt.NDArray[np.uint8]) -> int:
    """Return a 63-bit hash, never 0, of a decoded photo, uint8 (3, S, S).

    It reveals no more of the photo than its features, which a personal model stores as well.
    """
    from hashlib import blake2b

    data = np.ascontiguousarray(pixels).data
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big") >> 1 or 1


def decode_pixels(
    paths: Sequence[Source],
    size: int,
    *,
    workers: int | None = None,
    on_done: Callable[[int], None] | None = None,
    look: Callable[[int, Square], None] | None = None,
    whites: Whites = NO_WHITES,
) -> tuple[npt.NDArray[np.uint8], dict[int, str]]:
    """Decode photos in parallel.

    Args:
        paths: B files or other sources.
        size: side of the results in pixels.
        workers: number of threads; `worker_count()` by default.
        on_done: called with the number of photos decoded, in the calling thread.
        look: called with each photo's position in `paths` and its square, in a worker thread.
        whites: white levels, as for `read_square`.

    Returns:
        pixels: uint8 (B, 3, size, size); unreadable photos are black.
        problems: position of an unreadable photo -> reason.
    """
    pixels = np.zeros((len(paths), 3, size, size), dtype=np.uint8)

    def keep(position: int, square: Square) -> None:
        pixels[position] = square.pixels.transpose(2, 0, 1)
        if look is not None:
            look(position, square)

    problems = look_through(paths, size, keep, workers=workers, on_done=on_done, whites=whites)
    return pixels, problems


def look_through(
    paths: Sequence[Source],
    size: int,
    look: Callable[[int, Square], None],
    *,
    workers: int | None = None,
    on_done: Callable[[int], None] | None = None,
    whites: Whites = NO_WHITES,
) -> dict[int, str]:
    """Decode photos as `decode_pixels` does and pass each to `look`, without keeping them."""
    problems: dict[int, str] = {}

    def decode(position: int) -> None:
        try:
            square = read_square(paths[position], size, whites=whites)
        except PhotoError as error:
            problems[position] = str(error)
        else:
            look(position, square)

    pool = ThreadPoolExecutor(max_workers=workers or worker_count())
    try:
        for count, _ in enumerate(pool.map(decode, range(len(paths))), start=1):
            if on_done is not None:
                on_done(count)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
    return dict(sorted(problems.items()))
