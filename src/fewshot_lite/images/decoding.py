"""Many photos decoded side by side into one array, without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from fewshot_lite.images.photo import NO_WHITES, PhotoError, Source, Square, Whites, read_square


def worker_count() -> int:
    """Threads to decode with: one for each core this process may use, and two that wait for disks.

    Pillow lets go of the interpreter while it decodes and resizes, so threads are enough.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) + 2
    return (os.cpu_count() or 1) + 2


def digest_of(pixels: npt.NDArray[np.uint8]) -> int:
    """A number by which a decoded photo, uint8 (3, S, S), is known again: 63 bits, never 0.

    It tells no more of the photo than its features do, which a personal model keeps as well.
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
        paths: B files, or images stored otherwise.
        size: side of the results in pixels.
        workers: threads; `worker_count` unless given.
        on_done: called with the number of photos decoded, in the calling thread.
        look: called with each photo's position in `paths` and its square, in the threads.
        whites: as for `read_square`; see `images.bit_depths`.

    Returns:
        pixels: uint8 (B, 3, size, size); those that could not be read are black.
        problems: position in `paths` -> reason, for those.
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
    """As `decode_pixels`, but nothing is kept: `look` takes from each photo what it needs."""
    problems: dict[int, str] = {}

    def one(position: int) -> None:
        try:
            square = read_square(paths[position], size, whites=whites)
        except PhotoError as error:
            problems[position] = str(error)
        else:
            look(position, square)

    pool = ThreadPoolExecutor(max_workers=workers or worker_count())
    try:
        for count, _ in enumerate(pool.map(one, range(len(paths))), start=1):
            if on_done is not None:
                on_done(count)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
    return dict(sorted(problems.items()))
