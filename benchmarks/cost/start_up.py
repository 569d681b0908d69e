"""How long commands take from the shell, beside importing what they are made with.

    python -m benchmarks.cost.start_up

`--help` beside Typer and Rich; `classify` of one photo and `adapt` of 25, by onnxruntime and by
torch, beside torch. The commands take turns. Ratios are of processor time, of all threads: unlike
time on the clock it says little of what else the machine does meanwhile.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.common import arguments, emit, in_turns
from fewshot_lite.demo.drawings import KINDS, write_folder
from fewshot_lite.personal.loading import load

#: Of each command, what it is compared with.
_BESIDE = {"help": "import typer, rich"} | dict.fromkeys(
    ("classify", "classify, by torch", "adapt", "adapt, by torch"), "import torch"
)


def main() -> None:
    args = arguments(__doc__, repeats=15)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        photo = write_folder(here / "things", KINDS[:5], 5, seed=0)[0]
        personal = load().adapt(here / "things").save(here / "personal.safetensors")
        ours: list[str | Path] = ["-m", "fewshot_lite"]
        classify = [*ours, "classify", photo, "--no-reject", "--model", personal]
        adapt = [*ours, "adapt", here / "things", "--force", "--output", here / "adapted"]
        commands: dict[str, list[str | Path]] = {
            "help": [*ours, "--help"],
            "classify": classify,
            "classify, by torch": [*classify, "--device", "cpu:0"],
            "adapt": adapt,
            "adapt, by torch": [*adapt, "--device", "cpu:0"],
            **{name: ["-c", name] for name in _BESIDE.values()},
        }
        ways = {name: partial(run, words) for name, words in commands.items()}
        for way in ways.values():
            way()  # warms up
        found = in_turns([ways] * args.repeats, _BESIDE)
    emit("start_up", vars(args), found)


def run(words: list[str | Path]) -> None:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # compiled once, as if installed
    command = [sys.executable, *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


if __name__ == "__main__":
    main()
