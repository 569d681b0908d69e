"""Tasks for a training loop in time: the next ones are prepared while one is learned from.

Task t is a function of (seed, t), so who prepares it changes nothing: this process, a thread of it
or other processes (DataLoader workers; forked, forked from a server or spawned).
"""

from __future__ import annotations

import contextlib
import functools
import signal
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
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

#: Tasks that each worker holds ready, and threads it reads photos with.
_AHEAD, _WORKER_THREADS = 2, 2
#: "auto" takes no more processes: one task's images are a few hundred photos.
_MOST_WORKERS = 8
_DIED = (
    "A worker that prepares tasks died; memory (or /dev/shm) may have run out. Use fewer "
    "--workers, or --workers 0."
)


class Prefetch:
    """Tasks in order, on the device. `with Prefetch(...) as feed: ... task = feed.next()`.

    A worker that dies ends the block with a FewshotError.
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
        """Begin to prepare.

        Args:
            source: the tasks.
            numbers: which of them, in order.
            device: where they go; memory is pinned for CUDA.
            workers: processes that prepare; 0 for this one alone, None for what pays
                (`pick_workers`).
            on_replaced: called with an image that could not be read, each time.
            start_method: of workers; the system's own unless given.

        Raises:
            UsageError: images do not fit into memory that processes share.
        """
        self._device, self._on_replaced = device, on_replaced
        self._pin = device.type == "cuda"
        workers = pick_workers(device, kept=source.kept) if workers is None else workers
        self._tasks: Generator[PreparedTask]
        if workers:
            self._tasks = self._from_workers(source, numbers, workers, start_method)
        elif source.kept and not self._pin:
            # What is left to do is to copy some megabytes: a thread would only share the cores.
            self._tasks = (source.prepare(number) for number in numbers)
        else:
            self._tasks = self._from_thread(source, numbers)
        self._begun = time.perf_counter()
        self._waited = 0.0

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(RuntimeError):  # of a worker that dies at last
            self._tasks.close()
        # Torch tells of a worker's end by a signal: this may come from anywhere in the loop.
        if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
            raise FewshotError(_DIED) from None

    def next(self) -> Task:
        """The next task.

        Raises:
            StopIteration: all were handed out.
            FewshotError: a class has too few images left.
        """
        asked = time.perf_counter()
        prepared = next(self._tasks)
        self._waited += time.perf_counter() - asked
        for replaced in prepared.replaced:
            self._on_replaced(replaced)
        return prepared.on(self._device)

    def share_waited(self) -> float:
        """Share of the time since this was last asked that went into waiting for `next`."""
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
            coming = [thread.submit(prepare, number) for number in numbers[:1]]
            for number in [*numbers[1:], None]:
                task = coming.pop().result()
                if number is not None:
                    coming.append(thread.submit(prepare, number))
                yield task

    def _from_workers(
        self, source: TrainingTasks, numbers: Sequence[int], workers: int, start_method: str | None
    ) -> Generator[PreparedTask]:
        source.share()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # more processes than cores: as was asked for
            loader: DataLoader[PreparedTask | str] = DataLoader(
                _Prepared(source),
                batch_size=None,
                sampler=numbers,
                num_workers=workers,
                prefetch_factor=_AHEAD,
                pin_memory=self._pin,
                multiprocessing_context=start_method,
                worker_init_fn=functools.partial(_begin_worker, current_limit()),
                generator=torch.Generator(),  # or the caller's randomness would move on
            )
            items: Any = iter(loader)
        try:
            for item in items:
                if isinstance(item, str):
                    raise FewshotError(item)
                yield item
        except (ConnectionError, EOFError, FileNotFoundError):  # its end of a socket is gone
            raise FewshotError(_DIED) from None
        finally:
            # Now: an exception's frames hold it, and until then any worker's end raises anywhere.
            items._shutdown_workers()


class _Prepared(Dataset["PreparedTask | str"]):
    """Tasks by number, or the message of why there is none: exceptions change on their way."""

    def __init__(self, source: TrainingTasks) -> None:
        self._source = source

    def __getitem__(self, number: int) -> PreparedTask | str:
        try:
            return self._source.prepare(number)
        except FewshotError as error:
            return str(error.args[0])  # as it was written: another process tells it

    def begin(self) -> None:
        """Prepare a worker."""
        self._source.read_with(_WORKER_THREADS)


#: Contexts that hold for as long as a worker lives: one that nobody keeps is left at once.
_until_it_ends = contextlib.ExitStack()


def _begin_worker(max_pixels: int, number: int) -> None:
    """Torch has seen to it that a worker has one thread.

    Ctrl-C and a cluster's SIGTERM go to workers too, while the run goes on to the end of a step and
    saves. A second SIGTERM is the run's own, to a worker that does not end by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    _until_it_ends.enter_context(pixel_limit(max_pixels))
    info: Any = torch.utils.data.get_worker_info()
    info.dataset.begin()


def pick_workers(device: torch.device, *, kept: bool) -> int:
    """How many processes prepare tasks: none where images need no decoding, or on a CPU.

    There a thread decodes as well, as Pillow lets go of the interpreter, and the cores are busy.
    Ranks of one machine share its cores.
    """
    if kept or device.type == "cpu":
        return 0
    return max(1, min(_MOST_WORKERS, worker_count() // place().local_size - 3))
