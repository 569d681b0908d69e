"""Odd surroundings: streams that are closed or full, and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from command_line import Run
from fewshot_lite.core import checkpoint

PROGRAM = [sys.executable, "-m", "fewshot_lite"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("--version >&-", 1, "Error: Bad file descriptor.\n"),
        ("--version > /dev/full", 1, "Error: No space left on device.\n"),
        ("info gone 2>&-", 2, ""),
        ("info gone >&- 2>&-", 2, ""),
        ("info gone <&- >&-", 2, "Error: gone: no such file.\n"),
    ],
)
def test_closed_and_full_streams_end_in_one_line(line: str, code: int, said: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {line}', "sh", *PROGRAM],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_leave_no_half_written_file(tmp_path: Path, name: str) -> None:
    code = (
        "import sys, time; from pathlib import Path; from fewshot_lite.cli import app\n"
        "from fewshot_lite.core.files import atomic_path\n"
        "def work(**_):\n"
        "    with atomic_path(Path('out')):\n"
        "        print('at work', flush=True); time.sleep(60)\n"
        "app.app = work; app.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    assert len(list(tmp_path.iterdir())) == 1
    time.sleep(0.1)
    number = getattr(signal, name)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("evil", ["\x1b[2J", "[/x]", "[bold", "\u202egnp", "a\r\nb", "\x9b31m"])
def test_a_description_does_nothing_to_the_terminal(run: Run, tmp_path: Path, evil: str) -> None:
    path = tmp_path / "m.safetensors"
    about = {
        "image_size": evil,
        "class_names": [evil],
        "shots": [evil],
        "provenance": {"created": evil, "version": evil, "base": {"name": evil, "sha256": evil}},
        "record": {"data": {evil: []}, "figures": {evil: evil}},
    }
    checkpoint.save(path, evil, {"a": torch.zeros(1)}, about)
    for words in (("info", path), ("info", path, "--json"), ("classify", "x.jpg", "-m", path)):
        outcome = run(*words)
        assert outcome.code == (0 if words[0] == "info" else 2)
        text = outcome.out + outcome.err
        assert all(c.isprintable() or c == "\n" for c in text)
        assert "Traceback" not in text
    assert run("info", path).out.count("[/x]") == (11 if evil == "[/x]" else 0)
