"""What holds for all tests."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import Outcome, Run
from fewshot_lite.cli import app as cli
from fewshot_lite.cli.render import terminal as render
from fewshot_lite.core.errors import speaking_of_flags

# The tests' networks are tiny: more threads would only wait for each other.
torch.set_num_threads(1)
if "PYTEST_XDIST_WORKER" in os.environ:  # and so do the programs that tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _messages_as_they_are_written() -> Iterator[None]:
    """Those of flags; what Python says instead is tested in tests/core/test_errors.py."""
    with speaking_of_flags():
        yield


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The program in this process, with its output as it would be in a pipe."""
    monkeypatch.setenv("COLUMNS", "20")

    def run(*words: object, encoding: str = "utf-8") -> Outcome:
        streams = [io.TextIOWrapper(io.BytesIO(), encoding, write_through=True) for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            patch.setattr(sys, "argv", ["fewshot-lite", *map(str, words)])
            patch.setattr(render, "out", render._console(stderr=False))
            patch.setattr(render, "err", render._console(stderr=True))
            with pytest.raises(SystemExit) as ended:
                cli.main()
        code = ended.value.code or 0
        assert isinstance(code, int)
        out, err = (s.buffer.getvalue().decode(encoding) for s in streams)  # type: ignore[attr-defined]
        assert "\x1b" not in out + err, "control codes in a pipe"
        return Outcome(code, out, err)

    return run


@pytest.fixture
def picture() -> Image.Image:
    """96 x 64, RGB, smooth as a photo, no two corners alike."""
    spots = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(spots).resize((96, 64), Image.Resampling.BICUBIC)


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Makes small files, and folders where a name ends in a slash; returns the folder of all."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            if name.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"not decoded here")
        return tmp_path

    return make
