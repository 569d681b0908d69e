"""Parts that benchmarks share: printing, data sets, random tasks, memory, clocks, figures."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median
from subprocess import PIPE, Popen
from typing import Any

import torch
import torchvision

import fewshot_lite
from fewshot_lite.core.files import atomic_path
from fewshot_lite.core.intervals import half_width
from fewshot_lite.evaluation.cost import peak_resident
from fewshot_lite.learners import Learner
from fewshot_lite.learners.task import Task
from fewshot_lite.maml.registry import make_learner
from fewshot_lite.networks.weights import load_backbone

Row = dict[str, Any]


def machine() -> Row:
    """Where figures are from."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": cpu,
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "fewshot_lite": fewshot_lite.__version__,
    }


def emit(name: str, arguments: Row, result: Any) -> None:
    """Print a benchmark's outcome as JSON, or write it to the file `--keep` if there is one."""
    found = {"benchmark": name, "machine": machine(), "arguments": arguments, "result": result}
    text = json.dumps(found, indent=2, default=str)
    if arguments.get("keep"):
        with atomic_path(arguments["keep"]) as path:
            path.write_text(f"{text}\n")
    else:
        print(text)


class RowLog:
    """Rows as they come, kept in a file of JSON lines if there is one to go on from."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.rows: list[Row] = [json.loads(line) for line in lines]

    def add(self, rows: Sequence[Row]) -> None:
        """Rows of which all are kept or none."""
        self.rows += rows
        if self._path is not None:
            with self._path.open("a") as file:
                file.write("".join(json.dumps(row) + "\n" for row in rows))


def say(*words: object) -> None:
    """Progress, on stderr."""
    print(*words, file=sys.stderr, flush=True)


def arguments(doc: str | None, *places: str, **flags: Any) -> argparse.Namespace:
    """The command line of a benchmark.

    Args:
        doc: the docstring of its module, which `--help` prints.
        places: arguments by position, paths unless "model"; "data+" is one or more, "data*" any
            number.
        flags: by name the default, or a type where there is none; or that and a help text. A list
            is whole numbers with commas between; False is a flag without a value.
    """
    parser = argparse.ArgumentParser(description=doc)
    for name in places:
        kind: Any = str if name == "model" else Path
        bare = name.rstrip("+*")
        parser.add_argument(bare, type=kind, nargs=name[len(bare) :] or None)
    for name, given in flags.items():
        value, text = given if isinstance(given, tuple) else (given, None)
        flag = f"--{name.replace('_', '-')}"
        if value is False:
            parser.add_argument(flag, action="store_true", help=text)
        elif isinstance(value, type):
            parser.add_argument(flag, type=value, help=text)
        else:
            of = _numbers if isinstance(value, list) else type(value)
            parser.add_argument(flag, type=of, default=value, help=text)
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give whole numbers, e.g. 1,5") from None


def random_learner(
    name: str, backbone: str, size: int, options: Mapping[str, Any] | None = None
) -> Learner:
    """A learner on a backbone of random weights, where content is moot."""
    torch.manual_seed(0)
    return make_learner(name, load_backbone(backbone, "none", size)[0], dict(options or {}))


def random_images(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Random bytes, uint8 (count, 3, size, size)."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=random)


def random_task(number: int, queries: int, way: int, size: int) -> Task:
    """N support and Q query images of random bytes, classes in turn."""
    images = random_images(number + queries, size)
    labels = torch.arange(number) % way, torch.arange(queries) % way
    return Task(images[:number], labels[0], images[number:], labels[1], way)


def timed(action: Callable[[], object], device: torch.device | None = None) -> tuple[float, float]:
    """Seconds by the clock and of the processor: all threads, and programs that were waited for.

    What a GPU was given to do is waited for, too.
    """
    on_gpu = device is not None and device.type == "cuda"
    wait: Callable[[], object] = torch.cuda.synchronize if on_gpu else lambda: None
    wait()
    start, busy = time.perf_counter(), _processor()
    action()
    wait()
    return time.perf_counter() - start, _processor() - busy


def _processor() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def in_turns(
    ways: Mapping[str, Callable[[], object]],
    repeats: int,
    device: torch.device | None = None,
    warm: str = "",
) -> tuple[Row, Row]:
    """`timed` ways of doing something in turns, so that what disturbs one disturbs all.

    A round before those that count warms up, but for the one that is warm already.

    Returns:
        Seconds of each by the clock and of the processor, lists by name.
    """
    for name in ways.keys() - {warm}:
        ways[name]()
    rounds = [{name: timed(way, device) for name, way in ways.items()} for _ in range(repeats)]
    seconds, processor = ({name: [r[name][k] for r in rounds] for name in ways} for k in (0, 1))
    return seconds, processor


def medians(times: Row, digits: int = 4) -> Row:
    """The median of each list."""
    return {name: round(median(values), digits) for name, values in times.items()}


def ratios(times: Row, name: str, beside: str) -> list[float]:
    """One way's time as a share of another's, in each round."""
    return [round(a / b, 4) for a, b in zip(times[name], times[beside], strict=True)]


def means(found: Sequence[Mapping[str, float | None]], digits: int = 1) -> Row:
    """Means over tasks in percent, of those that are not None."""
    columns = {key: [v for task in found if (v := task[key]) is not None] for key in found[0]}
    return {key: round(100 * fmean(of), digits) if of else None for key, of in columns.items()}


def gain(values: Sequence[float], before: Sequence[float]) -> tuple[float, float]:
    """Mean difference of shares over the same tasks with half of its 95 % interval, in points."""
    gains = [100 * (a - b) for a, b in zip(values, before, strict=True)]
    return round(fmean(gains), 2), round(half_width(gains), 2)


def peak(device: torch.device | None = None) -> int:
    """Most bytes that this process has held so far; on a GPU those that torch allocated."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident()


def mebibytes(size: float) -> int:
    """In MiB."""
    return round(size / 2**20)


def fresh(function: Callable[..., Row], *given: object) -> Row:
    """What a module's function returns in a process of its own, or {"failed": why}."""
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(function, *given).result()
    except BrokenProcessPool:
        return {"failed": "killed: out of memory"}
    except Exception as error:
        return {"failed": str(error)[-300:]}


@contextmanager
def served(words: Sequence[str], home: Path, **options: Any) -> Iterator[tuple[Popen[str], int]]:
    """`fewshot-lite serve` in a folder until the end of the block: its process and its port."""
    command = [sys.executable, "-m", "fewshot_lite", "serve", *words, "--no-open"]
    with Popen(command, cwd=home, stdout=PIPE, text=True, **options) as process:
        assert process.stdout is not None
        found = re.search(r":(\d+)/", process.stdout.readline())
        if found is None:
            raise SystemExit("The server did not start.")
        try:
            yield process, int(found[1])
        finally:
            process.terminate()


def draw_lines(
    path: Path, panels: Sequence[tuple[str, Mapping[str, Sequence[tuple[float, float]]]]],
    labels: Sequence[str], *, log: bool = True,
) -> None:  # fmt: skip
    """A figure: a panel for each (title, lines by name of (x, y)), labelled on its two axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    for axes, (title, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=name)
        scale = "log" if log else "linear"
        axes.set(xlabel=labels[0], ylabel=labels[1], title=title, xscale=scale, yscale=scale)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=130)
