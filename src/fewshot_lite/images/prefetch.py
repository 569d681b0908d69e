"""Batches of photos decoded in threads while the network is busy with an earlier one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from fewshot_lite.images.decoding import decode_pixels
from fewshot_lite.images.folders import Skipped
from fewshot_lite.images.photo import Source, Square


@dataclass(frozen=True)
class DecodedBatch:
    """Some photos in order; B of them could be read."""

    paths: tuple[Source, ...]
    problems: dict[int, str]
    """Position in `paths` -> why it was not read."""
    pixels: npt.NDArray[np.uint8]
    """(B, 3, S, S), of the others."""


def decoded_batches(
    paths: Iterable[Source | Skipped],
    size: int,
    *,
    batch: int = 64,
    ahead: int = 2,
    workers: int | None = None,
    look: Callable[[int, Square], None] | None = None,
) -> Generator[DecodedBatch]:
    """Decode photos, some batches ahead of the one that is being worked on.

    At most `(1 + ahead) * batch` paths are taken that have not been answered, so memory does not
    depend on how many there are.

    Args:
        paths: photos, files or stored otherwise, and files that are known to be none: they are not
            opened.
        size: side S of the images.
        batch: paths to a batch.
        ahead: batches that are decoded, or being decoded, beyond the one handed out.
        workers: threads; `decoding.worker_count` unless given.
        look: as `decoding.decode_pixels` takes it, with positions in `paths`.
    """
    rest = iter(paths)
    waiting: deque[Future[DecodedBatch]] = deque()
    pool = ThreadPoolExecutor(max_workers=max(1, ahead))
    first = 0
    try:
        while True:
            while len(waiting) <= ahead and (chunk := tuple(islice(rest, batch))):
                waiting.append(pool.submit(_decoded, chunk, size, first, workers, look))
                first += len(chunk)
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decoded(
    chunk: tuple[Source | Skipped, ...],
    size: int,
    first: int,
    workers: int | None,
    look: Callable[[int, Square], None] | None,
) -> DecodedBatch:
    problems = {i: item.reason for i, item in enumerate(chunk) if isinstance(item, Skipped)}
    tried = [i for i in range(len(chunk)) if i not in problems]
    paths = tuple(item.path if isinstance(item, Skipped) else item for item in chunk)
    seen = None if look is None else (lambda i, square: look(first + tried[i], square))
    sources = [paths[i] for i in tried]
    pixels, unreadable = decode_pixels(sources, size, workers=workers, look=seen)
    good = [i for i in range(len(tried)) if i not in unreadable]
    problems |= {tried[i]: reason for i, reason in unreadable.items()}
    return DecodedBatch(paths, problems, pixels if len(good) == len(tried) else pixels[good])
