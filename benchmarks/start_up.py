"""How long `fewshot-lite --help` takes beside importing what it is made with.

python benchmarks/start_up.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from common import emit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    commands = {
        "help": [sys.executable, "-m", "fewshot_lite", "--help"],
        "import typer, rich": [sys.executable, "-c", "import typer, rich"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(args.repeats):
        for name, words in commands.items():
            start = time.perf_counter()
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}
    ratio = medians["help"] / medians["import typer, rich"]
    emit("start_up", vars(args), {"seconds": medians, "ratio": ratio})


if __name__ == "__main__":
    main()
