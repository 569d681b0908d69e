"""The Dockerfile and compose file of the documentation: what they call is there and runs.

No image is built here; each line is checked by what it means to the program and its package.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import typer

from exported import exported_small_personal
from fewshot_lite.cli.serve import serve

ROOT = Path(__file__).parents[2]
_TEXT = (ROOT / "docs" / "how-to" / "serve.md").read_text("utf-8")
DOCKERFILE, COMPOSE = (
    re.search(rf'title="{name}"\n(.*?)```', _TEXT, re.DOTALL)[1]  # type: ignore[index]
    for name in ("Dockerfile", "compose.yaml")
)
LINES = dict(re.findall(r"^([A-Z]+) (.*(?:\\\n.*)*)", DOCKERFILE, re.MULTILINE))
COMMAND: list[str] = json.loads(LINES["CMD"])
HEALTH: list[str] = json.loads(LINES["HEALTHCHECK"].removeprefix("CMD "))


def test_its_command_is_one_that_the_command_line_takes() -> None:
    program, name, *arguments = COMMAND
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert program in scripts
    assert name == "serve"
    app = typer.Typer()
    app.command()(serve)
    command = typer.main.get_command(app)
    found = command.make_context(name, list(arguments), resilient_parsing=False).params
    assert (str(found["target"]), found["host"]) == ("/models/personal.onnx", "0.0.0.0")
    assert str(found["port"]) == LINES["EXPOSE"]
    assert f":{LINES['EXPOSE']}/healthz" in HEALTH[-1]
    assert f"COPY personal.onnx {found['target']}" in DOCKERFILE
    (token,) = [p for p in command.params if p.name == "token"]
    assert f"environment:\n      {token.envvar}: " in COMPOSE
    assert f'ports: ["127.0.0.1:{found["port"]}:{found["port"]}"]' in COMPOSE
    arguments = re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"args: {(\w+):", COMPOSE) == arguments


def test_what_it_installs_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = re.findall(r"/src\[(\w+)\]", DOCKERFILE)
    assert extras == ["web"]
    assert set(extras) <= set(project["optional-dependencies"])
    image = re.search(r"FROM python:(\d+)\.(\d+)", DOCKERFILE)
    assert image
    lowest = re.search(r">=\s*(\d+)\.(\d+)", project["requires-python"])
    assert lowest
    assert tuple(map(int, image.groups())) >= tuple(map(int, lowest.groups()))
    user = re.search(r"useradd .* (\w+)$", DOCKERFILE, re.MULTILINE)
    assert user
    assert DOCKERFILE.index(f"USER {user[1]}") < DOCKERFILE.index("CMD [")


@pytest.mark.slow
def test_its_command_serves_and_its_health_check_tells(tmp_path: Path) -> None:
    (tmp_path / "personal.onnx").write_bytes(exported_small_personal())
    port = "18765"
    words = [
        {"/models/personal.onnx": "personal.onnx", LINES["EXPOSE"]: port}.get(word, word)
        for word in COMMAND[1:]
    ]
    health = [sys.executable, *HEALTH[1:-1], HEALTH[-1].replace(LINES["EXPOSE"], port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "fewshot_lite", *words]
    refused = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2  # others can reach it, and there is no token
    assert "needs --token" in refused.stderr
    environment["FEWSHOT_LITE_TOKEN"] = "a-token-of-24-characters"
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as server:
        try:
            for _ in range(240):
                if subprocess.run(health, capture_output=True, check=False).returncode == 0:
                    break
                time.sleep(0.5)
            else:
                raise AssertionError("never well")
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)
    assert subprocess.run(health, capture_output=True, check=False).returncode != 0
