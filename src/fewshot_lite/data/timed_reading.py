"""Photos read during a run: one that never comes is given up, and holds nothing up at the end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from fewshot_lite.images.photo import PhotoError, Source, Square, read_square

#: Seconds in which not one of the photos being read came: a disk or a network that hangs.
PATIENCE = 60.0


def read_in_time(
    paths: Sequence[Source],
    size: int,
    keep: Callable[[int, Square], None],
    *,
    threads: int,
    patience: float = PATIENCE,
) -> tuple[dict[int, str], set[int]]:
    """Read photos side by side.

    Threads are daemons of this call alone: a pool's are waited for when the program ends, also
    those that hang.

    Args:
        paths: what to read.
        size: side of the squares.
        keep: called with the position and the square of each, in the calling thread.
        threads: how many read at a time.
        patience: seconds without any photo after which those being read are given up.

    Returns:
        problems: position in `paths` -> why it was not read.
        slow: which of them were given up.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Square | BaseException]] = queue.SimpleQueue()
    begun: set[int] = set()
    for position in range(len(paths)):
        todo.put(position)

    def work() -> None:
        while True:
            try:
                position = todo.get_nowait()
            except queue.Empty:
                return
            begun.add(position)
            try:
                done.put((position, read_square(paths[position], size)))
            except BaseException as error:  # the caller's to raise, or to name
                done.put((position, error))

    def start() -> None:
        for _ in range(min(threads, todo.qsize())):
            threading.Thread(target=work, daemon=True).start()

    problems: dict[int, str] = {}
    slow: set[int] = set()
    awaited = set(range(len(paths)))
    start()
    while awaited:
        try:
            position, result = done.get(timeout=patience)
        except queue.Empty:
            slow |= awaited & begun
            problems |= dict.fromkeys(awaited & begun, f"not read within {patience:g} s")
            awaited -= begun
            start()
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
