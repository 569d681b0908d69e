"""The command line as tests run it: in this process or in one of its own, and what it answered."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        def refuse(token: str) -> None:
            raise ValueError(f"{token} is no JSON")

        return json.loads(self.out, parse_constant=refuse)


Run = Callable[..., Outcome]


def is_one_clear_line(outcome: Outcome, code: int, message: str) -> None:
    assert outcome.code == code, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("Error: ")
    assert outcome.err.endswith("\n")
    assert len(outcome.err.splitlines()) == 1, outcome.err
    assert re.search(message, outcome.err), outcome.err


#: Runs command lines one after the other in one process; says how each ended and what it imported.
_RUN = """
import contextlib, io, json, sys
from fewshot_lite.cli import app as cli
found = [["import", 0, "torch" in sys.modules, ""]]
for line in json.load(sys.stdin):
    sys.argv = ["fewshot-lite", *line]
    code, err = None, io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
    found.append([" ".join(line), code, "torch" in sys.modules, err.getvalue()])
from typer.main import get_command
print(json.dumps([found, list(get_command(cli.app).commands)]))
"""


def run_lines(lines: list[list[str]]) -> tuple[list[tuple[str, int, bool, str]], list[str]]:
    """(line, exit code, torch is imported, stderr) of command lines; the names of all commands."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _RUN],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, commands = json.loads(done.stdout)
    return [tuple(entry) for entry in found], commands
