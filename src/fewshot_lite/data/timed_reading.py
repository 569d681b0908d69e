"""Read photos in threads with a time limit, so that a hanging disk does not block a run."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from fewshot_lite.images.photo import PhotoError, Source, Square, read_square

#: Seconds without any photo after which those being read are given up.
PATIENCE = 60.0


def read_in_time(
    paths: Sequence[Source],
    size: int,
    keep: Callable[[int, Square], None],
    *,
    threads: int,
    patience: float = PATIENCE,
) -> tuple[dict[int, str], set[int]]:
    """Read photos in parallel.

    Args:
        paths: the photos.
        size: side of the squares.
        keep: called with each photo's position and square, in the calling thread.
        threads: number of threads.
        patience: seconds without any photo after which those being read are given up.

    Returns:
        problems: position in `paths` of a photo that was not read -> reason.
        slow: positions of those that were given up.
    """
    readers = _Readers(paths, size)
    problems: dict[int, str] = {}
    slow: set[int] = set()
    awaited = set(range(len(paths)))
    readers.start(threads)
    while awaited:
        try:
            position, result = readers.done.get(timeout=patience)
        except queue.Empty:
            given_up = awaited & readers.begun
            slow |= given_up
            problems |= dict.fromkeys(given_up, f"not read within {patience:g} s")
            awaited -= given_up
            readers.start(threads)
            continue
        if position not in awaited:  # given up before it came
            continue
        awaited.remove(position)
        if isinstance(result, PhotoError):
            problems[position] = str(result)
        elif isinstance(result, BaseException):
            raise result
        else:
            keep(position, result)
    return dict(sorted(problems.items())), slow


class _Readers:
    """Daemon threads that read photos: the threads of a pool would block the program's exit."""

    def __init__(self, paths: Sequence[Source], size: int) -> None:
        self._paths, self._size = paths, size
        self._todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        for position in range(len(paths)):
            self._todo.put(position)
        self.begun: set[int] = set()
        self.done: queue.SimpleQueue[tuple[int, Square | BaseException]] = queue.SimpleQueue()

    def start(self, threads: int) -> None:
        for _ in range(min(threads, self._todo.qsize())):
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                position = self._todo.get_nowait()
            except queue.Empty:
                return
            self.begun.add(position)
            try:
                self.done.put((position, read_square(self._paths[position], self._size)))
            except BaseException as error:  # raised or recorded by the caller
                self.done.put((position, error))
