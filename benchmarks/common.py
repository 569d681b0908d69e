"""Parts that benchmarks share: the command line, printing, random images, clocks, memory."""

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
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
import torchvision

import fewshot_lite
from fewshot_lite.core.files import atomic_path
from fewshot_lite.core.intervals import half_width
from fewshot_lite.evaluation.cost import peak_resident
from fewshot_lite.learners import SimpleCnaps
from fewshot_lite.networks.weights import load_backbone

Row = dict[str, Any]
#: Ways of doing something, by name.
Ways = Mapping[str, Callable[[], object]]


def machine() -> Row:
    """Where figures are from."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", info.read_text()) if info.exists() else []
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
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

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: list[Row] = [json.loads(line) for line in lines]

    def add(self, rows: Sequence[Row]) -> None:
        """Rows of which all are kept or none."""
        self.rows += rows
        with self._path.open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))


def emit_rows(name: str, args: argparse.Namespace, rows: Iterable[Row]) -> None:
    """Print rows, each on stderr as it comes, too; a file to `--keep` is written anew with each."""
    found: list[Row] = []
    for row in rows:
        found.append(row)
        say(row)
        if vars(args).get("keep"):
            emit(name, vars(args), found)
    emit(name, vars(args), found)


def say(*words: object) -> None:
    """Progress, on stderr."""
    print(*words, file=sys.stderr, flush=True)


def arguments(doc: str | None, *places: str, **flags: Any) -> argparse.Namespace:
    """The command line of a benchmark.

    Args:
        doc: the docstring of its module, which `--help` prints.
        places: arguments by position, paths unless "model"; "data+" is one or more.
        flags: by name the default, or a type where there is none; or that and a help text. A list
            is whole numbers with commas between.
    """
    parser = argparse.ArgumentParser(description=doc)
    kind: Any
    for name in places:
        kind, nargs = str if name == "model" else Path, "+" if name.endswith("+") else None
        parser.add_argument(name.rstrip("+"), type=kind, nargs=nargs)
    for name, given in flags.items():
        value, text = given if isinstance(given, tuple) else (given, None)
        default = None if isinstance(value, type) else value
        kind = value if default is None else numbers if isinstance(value, list) else type(value)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=text)
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def random_learner(backbone: str, size: int, **options: Any) -> SimpleCnaps:
    """Simple CNAPs on a backbone of random weights, where content is moot."""
    torch.manual_seed(0)
    return SimpleCnaps(load_backbone(backbone, "none", size)[0], **options)


def random_images(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Random bytes, uint8 (count, 3, size, size)."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=random)


def processor_time() -> float:
    """Processor seconds so far, of all threads of this process and programs that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def in_turns(
    rounds: Sequence[Ways],
    beside: Mapping[str, str],
    device: torch.device | None = None,
) -> Row:
    """Time ways of doing something in turns, so that what disturbs one disturbs all.

    Args:
        rounds: for each round the ways by name.
        beside: for some ways the one that each is compared with.
        device: what a GPU was given to do is waited for, too.

    Returns:
        Medians over the rounds: `seconds` by the clock, `processor_seconds`, and `ratios` of
        processor time (on a GPU, of time by the clock), which are there round by round, too.
    """
    on_gpu = device is not None and device.type == "cuda"
    wait: Callable[[], object] = torch.cuda.synchronize if on_gpu else lambda: None
    seconds, processor = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for ways in rounds:
        for name, way in ways.items():
            wait()
            start, busy = time.perf_counter(), processor_time()
            way()
            wait()
            seconds[name].append(time.perf_counter() - start)
            processor[name].append(processor_time() - busy)
    work = seconds if on_gpu else processor
    ratios = {
        f"{name} / {other}": [round(a / b, 4) for a, b in zip(work[name], work[other], strict=True)]
        for name, other in beside.items()
    }
    row: Row = {"seconds": seconds, "processor_seconds": processor, "ratios": ratios}
    for key, lists in row.items():
        row[key] = {name: round(median(values), 4) for name, values in lists.items()}
    return row | {"ratios_by_round": ratios}


def means(found: Sequence[Mapping[str, float | None]], digits: int = 1) -> Row:
    """Means over tasks in percent, of those that are not None."""
    columns = {key: [v for task in found if (v := task[key]) is not None] for key in found[0]}
    return {key: round(100 * fmean(of), digits) if of else None for key, of in columns.items()}


def gain(values: Sequence[float], before: Sequence[float]) -> tuple[float, float]:
    """Mean difference of shares over the same tasks with half of its 95 % interval, in points."""
    gains = [100 * (a - b) for a, b in zip(values, before, strict=True)]
    return round(fmean(gains), 2), round(half_width(gains), 2)


def peak_mib(device: torch.device | None = None) -> int:
    """Most memory that this process has held so far, in MiB; on a GPU what torch allocated."""
    on_gpu = device is not None and device.type == "cuda"
    return round((torch.cuda.max_memory_allocated(device) if on_gpu else peak_resident()) / 2**20)


def alone(
    function: Callable[..., Row],
    *given: object,
    method: str = "spawn",
    patience: float | None = None,
) -> Row:
    """What a module's function returns in a process of its own, or {"failed": why}."""
    context: Any = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, given))
    process.start()
    sender.close()
    try:
        found: Row = receiver.recv() if receiver.poll(patience) else {}
    except EOFError:  # it ended, e.g. as there was no memory
        found = {}
    process.kill()
    process.join()
    return found or {"failed": f"ended by {process.exitcode}"}


def _send(sender: Connection, function: Callable[..., Row], given: tuple[object, ...]) -> None:
    try:
        sender.send(function(*given))
    except Exception as error:
        sender.send({"failed": str(error)[-300:]})
