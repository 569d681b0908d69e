"""Kill a short run of meta-training at random moments and resume it: are the weights the same?

    python -m benchmarks.reliability.kills DATA --kills 20

Each of the runs is killed once with SIGKILL, every third while it writes a state or a checkpoint,
resumed until it ends, and compared bit for bit with a run that was left alone. Runs are forked from
one process that has imported torch, so that most of their time is training.
"""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import time
from collections import Counter
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, emit
from fewshot_lite.training import state as training
from fewshot_lite.training.meta_config import MetaTrainConfig
from fewshot_lite.training.meta_train import meta_train

_TASKS: Any = {"min_way": 3, "max_way": 4, "max_support": 12, "max_shot": 4, "queries": 2, "h": 4}
_STEPS: Any = {"tasks": 10, "tasks_per_step": 2, "save_every": 2, "ema": 0.9, "clip_norm": 1.0}
_NETWORK: Any = {"learner": "protonets", "backbone": "shufflenet_v2_x0_5", "image_size": 32}
_CONFIG = MetaTrainConfig(**_NETWORK, **_TASKS, **_STEPS, precision="float32")


def main() -> None:
    args = arguments(__doc__, "data", kills=20, seed=0)
    draw = random.Random(args.seed)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.safetensors"
        begun = time.monotonic()
        finish(start(args.data, whole, resume=False))
        seconds = time.monotonic() - begun
        for number in range(args.kills):
            output = Path(folder) / f"run{number}" / "model.safetensors"
            output.parent.mkdir()
            process = start(args.data, output, resume=False)
            time.sleep(draw.uniform(0, seconds))
            while number % 3 == 0 and process.is_alive() and not writes(output):
                time.sleep(0.0005)
            writing = writes(output)
            process.kill()
            process.join()
            ended = process.exitcode == 0
            newest = training.state_path(output)
            had_state = newest.exists() or training.previous(newest).exists()
            if not ended:
                finish(start(args.data, output, resume=training.log_path(output).exists()))
            found.update(
                killed=not ended,
                killed_while_writing=writing and not ended,
                killed_before_the_first_state=not had_state,
                same_weights=output.read_bytes() == whole.read_bytes(),
            )
    emit("kills", vars(args), {"seconds_of_a_run": round(seconds, 1), **found})


def start(data: Path, output: Path, *, resume: bool) -> BaseProcess:
    """A run in a process of its own."""
    run = partial(meta_train, data, output, _CONFIG, resume=resume)
    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def finish(process: BaseProcess) -> None:
    """Wait for a run that must succeed."""
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"A run ended with exit code {process.exitcode}.")


def writes(output: Path) -> bool:
    """Whether a run is writing a state or a checkpoint."""
    return any(output.parent.glob(".fewshot-lite-*"))


if __name__ == "__main__":
    main()
