"""Meta-train, kill in the middle, resume: does the loss fall, and are the weights the same?

    python benchmarks/resume.py DATA --weights backbone.safetensors --tasks 200

Runs the command twice: once undisturbed, once killed with SIGKILL when about half of the tasks are
in the log, then resumed. Compares all tensors of the two checkpoints bit by bit.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from common import emit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--tasks", type=int, default=200)
    args, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole.safetensors", Path(folder) / "killed.safetensors"

        def command(output: Path) -> list[str]:
            words = [sys.executable, "-m", "fewshot_lite", "meta-train", args.data]
            words += ["--weights", args.weights, "--tasks", str(args.tasks), "-o", str(output)]
            return [*words, "--save-every", str(max(1, args.tasks // 5)), *options]

        subprocess.run(command(whole), check=True, stdout=subprocess.DEVNULL)
        process = subprocess.Popen(command(killed), stdout=subprocess.DEVNULL)
        while tasks_done(killed) < args.tasks // 2:
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        at = tasks_done(killed)
        subprocess.run([*command(killed), "--resume"], check=True, stdout=subprocess.DEVNULL)
        first, second = load_file(whole), load_file(killed)
        same = first.keys() == second.keys() and all(
            torch.equal(first[name], second[name]) for name in first
        )
        steps = [line for line in log(whole) if line["event"] == "step"]
        quarter = len(steps) // 4
        emit(
            "resume",
            {**vars(args), "options": options},
            {
                "killed_after_tasks": at,
                "same_weights": same,
                "loss_first_quarter": mean([s["loss"] for s in steps[:quarter]]),
                "loss_last_quarter": mean([s["loss"] for s in steps[-quarter:]]),
            },
        )


def log(output: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    path = output.with_suffix(".jsonl")
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if "\n" in line]


def tasks_done(output: Path) -> int:
    """Tasks in a run's log so far."""
    return max((line["task"] for line in log(output) if "task" in line), default=0)


def mean(values: list[float]) -> float:
    """Rounded mean."""
    return round(sum(values) / len(values), 4)


if __name__ == "__main__":
    main()
