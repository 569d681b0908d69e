"""benchmarks/scale.py: without a GPU one clear line, and a trial that runs anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scale.py"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *words]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # threads that wait for each other in turns
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=alone
    )


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    done = run()
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "needs a CUDA device" in line
    assert "--device cpu --small" in line


@pytest.mark.slow
def test_a_trial_on_the_cpu() -> None:
    done = run("--device", "cpu", "--small")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["result"]
    assert [(row["precision"], row["support"]) for row in rows] == [
        ("float32", 6),
        ("float32", 12),
        ("bfloat16", 6),
        ("bfloat16", 12),
    ]
    for row in rows:
        assert row["peak_mib"] > 0
        assert row["share_of_floor"] > 0
        assert set(row["seconds"]) == {"task_on_device", "step", "floor"}
        exact = row["precision"] == "float32"
        assert (row["agreement"]["gradient_error"] == 0) == exact
        assert row["agreement"]["same_answers"] == 1 or not exact
