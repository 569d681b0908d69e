"""The README's Python lines run as they stand."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fewshot_lite.core.files import models_folder
from fewshot_lite.demo.drawings import draw, write_folder

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.slow
@pytest.mark.skipif(
    not any(models_folder().glob("*.safetensors")), reason="no shipped model in this checkout"
)
def test_the_readmes_python_lines_run(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    write_folder(tmp_path / "my_objects", ["mug", "house"], per_kind=3, seed=0)
    draw("mug", random.Random(1)).save(tmp_path / "photo.jpg")
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", block],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[0] in ("mug", "house")
    assert (tmp_path / "personal.safetensors").exists()
