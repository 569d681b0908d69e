"""What every benchmark prints besides its figures, and data sets by name."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch
import torchvision

import fewshot_lite
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.data.episodes import Pool
from fewshot_lite.data.store import ImageStore
from fewshot_lite.evaluation.protocols.options import ProtocolOptions, parse_spans
from fewshot_lite.images.folders import ImageFolder, require_folder, scan_classes


def machine() -> dict[str, Any]:
    """Where figures are from."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            s.partition(":")[2].strip() for s in info.read_text().splitlines() if "model name" in s
        ]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "fewshot_lite": fewshot_lite.__version__,
    }


def emit(name: str, arguments: dict[str, Any], result: Any) -> None:
    """Print a benchmark's outcome as JSON."""
    json.dump(
        {"benchmark": name, "machine": machine(), "arguments": arguments, "result": result},
        sys.stdout,
        indent=2,
        default=str,
    )
    print()


def open_data(
    path: Path, size: int, only: set[str] | None = None
) -> tuple[ImageFolder, ImageStore, Pool]:
    """A data set, its images at one size and its pool for episodes."""
    folder = scan_classes(path)
    if only is not None:
        folder = folder.select(only)
    store = ImageStore(folder.paths, size)
    return folder, store, Pool(folder, unreadable=list(store.problems))


def protocol_options(args: argparse.Namespace) -> ProtocolOptions:
    """Tasks of `--ways`, `--shots`, `--queries`, `--tasks` and `--seed`.

    Raises:
        UsageError: ways or shots that are none.
    """
    return ProtocolOptions(
        ways=parse_spans("--ways", args.ways, least=2),
        shots=parse_spans("--shots", args.shots, least=1),
        queries=args.queries,
        tasks=args.tasks,
        seed=args.seed,
    )


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Make a list of `--shots`, and end with one line where that or a data set cannot be."""
    try:
        args.shots = [int(text) for text in args.shots.split(",")]
    except ValueError:
        parser.error(f"--shots {args.shots}: give whole numbers, e.g. 1,5")
    try:
        for path in args.data:
            require_folder(path)
    except FewshotError as error:
        parser.error(str(error))
