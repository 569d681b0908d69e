"""Odd surroundings: streams that are closed or full, and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from command_line import Run
from fewshot_lite.core import checkpoint

PROGRAM = [sys.executable, "-m", "fewshot_lite"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

#: A command that writes a file for a minute, unless a signal ends it. Signals act as in a terminal
#: however the tests were started (in the background, or under `nohup`, some would be ignored),
#: but for those that it is told to ignore. A signal between two short sleeps is seen at the next.
AT_WORK = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
for name in sys.argv[1:]:
    signal.signal(getattr(signal, name), signal.SIG_IGN)
from fewshot_lite.cli import app
from fewshot_lite.core.files import atomic_path

def work(**_):
    with atomic_path(Path("out")):
        print("at work", flush=True)
        for _ in range(1200):
            time.sleep(0.05)

app.app = work
app.main()
"""


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("--version >&-", 1, "Error: Bad file descriptor.\n"),
        ("--version > /dev/full", 1, "Error: No space left on device.\n"),
        ("info gone 2>&-", 2, ""),
        ("info gone >&- 2>&-", 2, ""),
        ("info gone <&- >&-", 2, "Error: gone: no such file. Check its name and its folder.\n"),
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
@pytest.mark.parametrize(
    ("ignored", "sent", "ends_by"),
    [
        ("", "SIGINT", "SIGINT"),
        ("", "SIGTERM", "SIGTERM"),
        ("", "SIGHUP", "SIGHUP"),
        ("SIGHUP", "SIGHUP SIGTERM", "SIGTERM"),  # as `nohup` starts programs
    ],
)
def test_signals_leave_no_half_written_file(
    tmp_path: Path, ignored: str, sent: str, ends_by: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", AT_WORK, *ignored.split()],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    assert len(list(tmp_path.iterdir())) == 1
    for name in sent.split():
        process.send_signal(getattr(signal, name))
    _, err = process.communicate()
    assert process.returncode == 128 + getattr(signal, ends_by)
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


@pytest.mark.parametrize("own", [None, "7"])
@pytest.mark.parametrize(
    ("name", "ours"), [("GOMP_SPINCOUNT", "10000"), ("OPENBLAS_THREAD_TIMEOUT", "20")]
)
def test_threads_that_wait_leave_the_cores_to_others_unless_told_otherwise(
    own: str | None, name: str, ours: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != name}
    environment |= {} if own is None else {name: own}
    code = "import os, sys, fewshot_lite.cli.app\n"
    code += f"print(os.environ['{name}'], {{'numpy', 'torch'}} & sys.modules.keys() or 'neither')"
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [own or ours, "neither"]
