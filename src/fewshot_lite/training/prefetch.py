"""Prepare the next tasks of a training loop in the background.

Task t is a function of (seed, t), so it is the same whether this process prepares it, a thread, or
other processes (DataLoader workers: forked, forked from a server or spawned).
"""

from __future__ import annotations

import contextlib
import functools
import signal
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from fewshot_lite.core.errors import FewshotError
from fewshot_lite.core.ranks import place
from fewshot_lite.data.episode_images import Replaced
from fewshot_lite.data.prepared_task import PreparedTask
from fewshot_lite.images.decoding import worker_count
from fewshot_lite.images.opening import current_limit, pixel_limit
from fewshot_lite.learners.task import Task
from fewshot_lite.training.tasks import TrainingTasks

#: Tasks that each worker prepares ahead, and threads that it reads photos with.
_AHEAD, _WORKER_THREADS = 2, 2
#: Most workers chosen automatically: a task has only a few hundred photos.
_MOST_WORKERS = 8
_DIED = (
    "A worker that prepares tasks died; memory (or /dev/shm) may have run out. Use fewer "
    "--workers, or --workers 0."
)


class Prefetch:
    """Yields tasks in order, on the device. `with Prefetch(...) as tasks: ... task = tasks.next()`.

    If a worker dies, the block raises a FewshotError.
    """

    def __init__(
        self,
        source: TrainingTasks,
        numbers: Sequence[int],
        device: torch.device,
        workers: int | None = None,
        on_replaced: Callable[[Replaced], None] = lambda replaced: None,
        *,
        start_method: str | None = None,
    ) -> None:
        """Begin to prepare tasks.

        Args:
            source: the tasks.
            numbers: of the tasks to prepare, in order.
            device: the device to move them to; memory is pinned for CUDA.
            workers: number of processes; 0 for none, None for `pick_workers`.
            on_replaced: called with each image that could not be read.
            start_method: of the workers; the system's default if None.

        Raises:
            UsageError: the images do not fit into shared memory.
        """
        self._device, self._on_replaced = device, on_replaced
        self._pin = device.type == "cuda"
        workers = pick_workers(device, kept=source.kept) if workers is None else workers
        self._tasks: Generator[PreparedTask]
        if workers:
            self._tasks = self._from_workers(source, numbers, workers, start_method)
        elif source.kept and not self._pin:
            # This only copies some megabytes: a thread would compete for the cores.
            self._tasks = (source.prepare(number) for number in numbers)
        else:
            self._tasks = self._from_thread(source, numbers)
        self._begun = time.perf_counter()
        self._waited = 0.0

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with contextlib.suppress(RuntimeError):  # a worker dies while it is shut down
            self._tasks.close()
        # Torch reports a worker's death by a signal, so it may be raised anywhere in the loop.
        if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
            raise FewshotError(_DIED) from None

    def next(self) -> Task:
        """Return the next task.

        Raises:
            StopIteration: there are no more tasks.
            FewshotError: a class has too few images left.
        """
        start = time.perf_counter()
        prepared = next(self._tasks)
        self._waited += time.perf_counter() - start
        for replaced in prepared.replaced:
            self._on_replaced(replaced)
        return prepared.on(self._device)

    def share_waited(self) -> float:
        """Return the share of time spent waiting in `next` since the last call of this method."""
        now = time.perf_counter()
        share = self._waited / max(now - self._begun, 1e-9)
        self._begun, self._waited = now, 0.0
        return share

    def _from_thread(
        self, source: TrainingTasks, numbers: Sequence[int]
    ) -> Generator[PreparedTask]:
        def prepare(number: int) -> PreparedTask:
            task = source.prepare(number)
            return task.pin_memory() if self._pin else task

        with ThreadPoolExecutor(max_workers=1) as thread:
            pending = [thread.submit(prepare, number) for number in numbers[:1]]
            for number in [*numbers[1:], None]:
                task = pending.pop().result()
                if number is not None:
                    pending.append(thread.submit(prepare, number))
                yield task

    def _from_workers(
        self, source: TrainingTasks, numbers: Sequence[int], workers: int, start_method: str | None
    ) -> Generator[PreparedTask]:
        source.share()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about more processes than cores
            loader: DataLoader[PreparedTask | str] = DataLoader(
                _Prepared(source),
                batch_size=None,
                sampler=numbers,
                num_workers=workers,
                prefetch_factor=_AHEAD,
                pin_memory=self._pin,
                multiprocessing_context=start_method,
                worker_init_fn=functools.partial(_begin_worker, current_limit()),
                generator=torch.Generator(),  # otherwise the global random state would change
            )
            items: Any = iter(loader)
        try:
            for item in items:
                if isinstance(item, str):
                    raise FewshotError(item)
                yield item
        except (ConnectionError, EOFError, FileNotFoundError):  # the worker's socket is gone
            raise FewshotError(_DIED) from None
        finally:
            # At once: exceptions keep frames alive, and until then a dying worker raises anywhere.
            items._shutdown_workers()


class _Prepared(Dataset["PreparedTask | str"]):
    """Tasks by number, or the message of a failure, as exceptions change on the way."""

    def __init__(self, source: TrainingTasks) -> None:
        self._source = source

    def __getitem__(self, number: int) -> PreparedTask | str:
        try:
            return self._source.prepare(number)
        except FewshotError as error:
            return str(error.args[0])  # with flags, which the main process may replace

    def begin(self) -> None:
        """Set up a worker."""
        self._source.read_with(_WORKER_THREADS)


#: Keeps contexts entered for the lifetime of a worker.
_worker_contexts = contextlib.ExitStack()


def _begin_worker(max_pixels: int, number: int) -> None:
    """Ignore Ctrl-C and the first SIGTERM in a worker, and set its limits.

    Both reach workers too, while the run continues to the end of a step and saves. A second SIGTERM
    comes from the run itself, for a worker that does not end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    _worker_contexts.enter_context(pixel_limit(max_pixels))
    info: Any = torch.utils.data.get_worker_info()
    info.dataset.begin()


def pick_workers(device: torch.device, *, kept: bool) -> int:
    """Return the number of workers: none on a CPU, or if images need no decoding (`kept`).

    On a CPU the cores are busy, and a thread decodes as well, as Pillow releases the interpreter
    lock. The ranks of a machine share its cores.
    """
    if kept or device.type == "cpu":
        return 0
    return max(1, min(_MOST_WORKERS, worker_count() // place().local_size - 3))
