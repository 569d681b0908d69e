"""Adapting, classifying and exporting stay on this computer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from photos import draw_classes, tiny_model

#: Every command in one process, in which Python tells of each socket and each name looked up.
PROGRAM = """
import sys
sys.addaudithook(lambda event, _: event.startswith("socket.") and print(event, file=sys.stderr))
from fewshot_lite.cli.app import app
for line in (
    "adapt things --base base.safetensors --report a.html",
    "export personal.safetensors",
    "classify things --model personal.onnx --report c.html",
    "classify things",
):
    app(line.split(), standalone_mode=False)
import onnxruntime
"""


@pytest.mark.slow
def test_no_socket_is_opened(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    tiny_model().save(tmp_path / "base.safetensors")
    draw_classes(tmp_path / "things", {"mug": 2, "keys": 2})
    (tmp_path / "program.py").write_text(PROGRAM)
    tracer = shutil.which("strace")  # sees what libraries do that are not Python
    trace = [tracer, "-f", "-qq", "-e", "trace=socket", "-o", "trace"] if tracer else []
    home = tmp_path / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [*trace, sys.executable, "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**environment, "HOME": str(home), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "socket." not in done.stderr
    if tracer:
        assert re.findall("AF_INET.*", (tmp_path / "trace").read_text()) == []
    assert [path.name for path in home.rglob("*onnx*")] == []  # no identity of this device either


@pytest.mark.slow
def test_telemetry_is_off_before_onnxruntime_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    code = (
        "import os, sys, fewshot_lite.personal.{}\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    )
    for module in ("exported_model", "export.writing"):
        words = [sys.executable, "-c", code.format(module)]
        subprocess.run(words, check=True, env=environment)
