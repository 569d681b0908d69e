"""`fewshot-lite serve` as a process of its own, for tests of the real server and the page in it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Served:
    """A server that runs."""

    process: subprocess.Popen[str]
    address: str

    @property
    def port(self) -> int:
        return int(self.address.rstrip("/").rpartition(":")[2])

    def end(self, how: int = signal.SIGINT) -> tuple[int, str]:
        """Its exit code and what it said on stderr."""
        self.process.send_signal(how)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@contextlib.contextmanager
def serving(*words: object, cwd: Path) -> Iterator[Served]:
    """The command with these words, once it has told its address."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "fewshot_lite", "serve", *map(str, words)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "HOME": str(cwd)},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + process.communicate()[1]
        yield Served(process, found[0])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
