"""How long commands take from the shell, beside importing what they are made with.

python -m benchmarks.cost.start_up

`--help` beside Typer and Rich; `classify` of one photo and `adapt` of 25, by onnxruntime and by
torch, beside torch. The commands take turns. Seconds are of the processor, of all threads: unlike
time on the clock they say little of what else the machine does meanwhile.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.common import arguments, emit, in_turns, medians, ratios
from fewshot_lite.demo.drawings import KINDS, write_folder
from fewshot_lite.personal.loading import load

#: Of each command, what it is compared with.
_BESIDE = {
    "help": "import typer, rich",
    "classify": "import torch",
    "classify, by torch": "import torch",
    "adapt": "import torch",
    "adapt, by torch": "import torch",
}


def main() -> None:
    args = arguments(__doc__, repeats=15)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        photo = write_folder(here / "things", KINDS[:5], 5, seed=0)[0]
        personal = load().adapt(here / "things").save(here / "personal.safetensors")
        ours = [sys.executable, "-m", "fewshot_lite"]
        classify = [*ours, "classify", str(photo), "--no-reject", "--model", str(personal)]
        adapted = str(here / "adapted.safetensors")
        adapt = [*ours, "adapt", str(here / "things"), "--force", "--output", adapted]
        commands = {
            "help": [*ours, "--help"],
            "import typer, rich": [sys.executable, "-c", "import typer, rich"],
            "classify": classify,
            "classify, by torch": [*classify, "--device", "cpu:0"],
            "adapt": adapt,
            "adapt, by torch": [*adapt, "--device", "cpu:0"],
            "import torch": [sys.executable, "-c", "import torch"],
        }
        ways = {name: partial(run, words) for name, words in commands.items()}
        _, times = in_turns(ways, args.repeats)
    shares = {name: round(median(ratios(times, name, it)), 4) for name, it in _BESIDE.items()}
    emit("start_up", vars(args), {"seconds": medians(times), "ratios": shares})


def run(words: list[str]) -> None:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # compiled once, as if installed
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment)


if __name__ == "__main__":
    main()
