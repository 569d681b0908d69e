"""Run the gradient steps of several folds at once, each fold in threads of its own.

Convolutions of a dozen photos keep several threads of one fold waiting for each other, most of all
where other programs want the cores, too; folds do not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from typing import TypeVar

import torch

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.progress import OnDone

T = TypeVar("T")


def at_once(runs: Sequence[Callable[[OnDone], T]], steps: int, on_step: OnDone | None) -> list[T]:
    """Return what the run of each fold returns.

    Args:
        runs: called with what they have to call after each step; in threads, which share torch's
            number of threads among them, and without gradients unless they enable them.
        steps: steps of each run.
        on_step: called in the caller's thread with (steps taken, steps in all), over all folds. An
            exception that it raises ends all folds at their next step.

    Raises:
        Exception: what `on_step` or a fold raised.
    """
    threads = torch.get_num_threads()
    workers = max(1, min(len(runs), threads))
    finished: SimpleQueue[bool] = SimpleQueue()  # False for a step, True for a fold
    stopped = Event()

    def count(taken: int, of: int) -> None:
        if stopped.is_set():
            raise FewshotError("interrupted.")
        finished.put(False)

    @torch.no_grad()
    def of_fold(run: Callable[[OnDone], T]) -> T:
        torch.set_num_threads(threads // workers)  # of this thread
        try:
            return run(count)
        finally:
            finished.put(True)

    with ThreadPoolExecutor(workers) as pool:
        results = [pool.submit(of_fold, run) for run in runs]
        taken, running = 0, len(runs)
        try:
            while running:
                if finished.get():
                    running -= 1
                elif on_step is not None:
                    taken += 1
                    on_step(taken, steps * len(runs))
        finally:
            stopped.set()
            torch.set_num_threads(threads)  # for threads that begin later
    return [result.result() for result in results]
