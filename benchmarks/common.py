"""Parts that benchmarks share: printing, data sets, random tasks, memory, clocks, figures."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision

import fewshot_lite
from fewshot_lite.core.files import atomic_path
from fewshot_lite.data.episodes import Pool
from fewshot_lite.data.store import ImageStore
from fewshot_lite.images.folders import ImageFolder, scan_classes
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

    Returns:
        The values by name, and `point`: what `point` gave a fresh process to measure, or None.
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
    parser.add_argument("--point", nargs="*", help=argparse.SUPPRESS)
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give whole numbers, e.g. 1,5") from None


def open_data(path: Path, size: int) -> tuple[ImageFolder, ImageStore, Pool]:
    """A data set, its images at one size and its pool for episodes."""
    folder = scan_classes(path)
    store = ImageStore(folder.paths, size)
    return folder, store, Pool(folder, unreadable=list(store.problems))


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


def clock(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def peak(device: torch.device | None = None) -> int:
    """Most bytes that this process has held so far; on a GPU those that torch allocated."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # what `getrusage` says on Linux is at least what the parent process held
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def mebibytes(size: float) -> int:
    """In MiB."""
    return round(size / 2**20)


def point(module: str, *words: object, environment: Mapping[str, str] | None = None) -> Row:
    """One measurement in a fresh process: the same script with `--point`, which prints JSON."""
    command = [sys.executable, "-W", "ignore", "-m", module, *sys.argv[1:], "--point"]
    done = subprocess.run(
        [*command, *map(str, words)], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        reason = "killed: out of memory" if done.returncode == -9 else (lines or ["failed"])[-1]
        return {"failed": reason[-300:]}
    found: Row = json.loads(done.stdout)
    return found


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
