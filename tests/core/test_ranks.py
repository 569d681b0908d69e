"""Several processes as one run: the same weights, the same failures, and no hang."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from fewshot_lite.core import ranks
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.ranks import LostRankError, Place, Ranks
from photos import classes, contents, draw_classes

TWO = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
TWO |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def test_a_process_on_its_own_is_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks.place() == Place(0, 1, 0, 1)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert ranks.place() == Place()
    with ranks.join() as group:
        assert group.share([1, 2, 3]) == [1, 2, 3]
        assert group.from_first(b"x") == b"x"
        assert group.everyone({"a": 1}) == [{"a": 1}]
        assert group.sum(torch.ones(2)).tolist() == [1, 1]
        assert group.any(True)
        assert not group.any(False)
        group.check_same({"a": 1}, "")
        with pytest.raises(KeyError):
            group.together(lambda: {}["missing"])


def test_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TWO.items():
        monkeypatch.setenv(name, value)
    assert ranks.place() == Place(1, 2, 1, 2)
    assert Ranks(Place(1, 3)).share(range(8)) == range(1, 8, 3)
    assert ranks.device_name("cpu") == "cpu"
    with pytest.raises(UsageError, match="--device cuda:1: give cuda"):
        ranks.device_name("cuda:1")
    with pytest.raises(UsageError, match=r"pretrain: runs in one process\. Start it without"):
        ranks.refuse_ranks("pretrain")
    assert not ranks.speaks(FewshotError(""))
    assert ranks.speaks(LostRankError(""))
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert ranks.speaks(FewshotError(""))
    monkeypatch.delenv("MASTER_ADDR")
    with pytest.raises(UsageError, match=r"WORLD_SIZE is 2, but .*MASTER_ADDR.*torchrun"):
        ranks.place()
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UsageError, match=r"WORLD_SIZE is two, but .*torchrun"):
        ranks.place()


FLAGS = shlex.split(
    "--backbone shufflenet_v2_x0_5 --image-size 32 --min-way 3 --max-way 4 --max-support 12 "
    "--max-shot 4 --queries 2 --tasks-per-step 4 --h 4 --precision float32 --save-every 4 "
    "--validate-every 8 --device cpu"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_classes(tmp_path_factory.mktemp("data") / "shapes", classes(9, photos=10))


@contextmanager
def running(
    number: int, *words: object, program: Sequence[str] = ("-m", "fewshot_lite")
) -> Iterator[subprocess.Popen[str]]:
    """`fewshot-lite meta-train` on so many ranks, ended at the end."""
    launch = [sys.executable]
    if number > 1:
        launch = [*TORCHRUN, str(number)]
    process = subprocess.Popen(
        [*launch, *program, "meta-train", *FLAGS, *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def finish(number: int, *words: object) -> tuple[int, str, str]:
    with running(number, *words) as process:
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err


def children(process: subprocess.Popen[str]) -> list[int]:
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(word) for word in text.split()]


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 200
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")


@pytest.mark.slow
def test_two_ranks_are_one_process(data: Path, tmp_path: Path) -> None:
    """Also the scores of validation and the log; a step of 4 tasks, and a last one of 1."""
    logs = []
    for number in (1, 2):
        output = tmp_path / f"{number}.safetensors"
        code, out, err = finish(number, data, "-o", output, "--tasks", 13)
        assert code == 0, err
        assert out.count("Done after 13 tasks") == 1
        lines = [json.loads(line) for line in output.with_suffix(".jsonl").read_text().splitlines()]
        times = ("seconds", "tasks_per_second", "waiting", "ranks")
        logs.append([{k: v for k, v in line.items() if k not in times} for line in lines])
    assert logs[0] == logs[1]
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()
    assert len(contents(tmp_path)) == 4


@linux
@pytest.mark.slow
def test_a_killed_rank_ends_the_job_and_one_process_goes_on(data: Path, tmp_path: Path) -> None:
    words = [data, "--tasks", 24]
    whole, output = tmp_path / "whole.safetensors", tmp_path / "model.safetensors"
    assert finish(1, *words, "-o", whole)[0] == 0
    with running(2, *words, "-o", output) as process:
        wait_for(output.with_suffix(".jsonl"), '"task": 8')
        os.kill(children(process)[1], signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        assert process.returncode != 0
    assert "Error: Rank 1 of 2 (process" in err
    assert "go on with --resume" in err
    code, _, err = finish(1, *words, "-o", output, "--resume")
    assert code == 0, err
    assert output.read_bytes() == whole.read_bytes()


@linux
@pytest.mark.slow
def test_a_frozen_rank_ends_the_job(data: Path, tmp_path: Path) -> None:
    """With less patience than the command has, for the test's time."""
    output, script = tmp_path / "model.safetensors", tmp_path / "script.py"
    script.write_text(
        "from fewshot_lite.cli import app\nfrom fewshot_lite.core import heartbeat\n"
        "heartbeat._LIMIT = 8.0\napp.main()\n"
    )
    words = [data, "--tasks", 4000, "--validate-every", 0, "-o", output]
    with running(2, *words, program=[str(script)]) as process:
        wait_for(output.with_suffix(".jsonl"), '"task": 4')
        frozen = children(process)[1]
        os.kill(frozen, signal.SIGSTOP)
        said = ""
        while "go on with --resume" not in said:
            line = process.stderr.readline()  # type: ignore[union-attr]
            assert line, said
            said += line
        os.kill(frozen, signal.SIGKILL)  # torchrun would do it after 30 s more
        process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Rank 1 of 2" in said
    assert "has not been heard of for 8 s" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "none/m"], "there is no folder"),
        (["-o", "m", "--lr", "-1"], "--lr -1"),
        (["-o", "m", "--min-way", "12", "--max-way", "12"], "Too few classes"),
    ],
)
def test_what_fails_is_said_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = finish(2, data, "--tasks", 4, *words)
    assert code != 0
    assert not out
    assert err.count("Error: ") - err.count("ChildFailedError: ") == 1, err
    assert message in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("version", "'9.9'", "Rank 1 of 2 has fewshot-lite 9.9, rank 0 has 0"),
        ("data", "other", "Rank 1 of 2 has data "),
        ("lr", "0.5", "Rank 1 of 2 has lr 0.5, rank 0 has 0.001"),
    ],
)
def test_ranks_that_differ_are_refused(
    data: Path, tmp_path: Path, variable: str, value: str, message: str
) -> None:
    other = str(draw_classes(tmp_path / "other", classes(9, photos=11)))
    code = (
        "import os, sys, pathlib; rank = os.environ['RANK'];"
        "from dataclasses import replace;"
        "from fewshot_lite.training import meta_setup, meta_train; from photos import QUICK;"
        f"data, lr, version, other = {str(data)!r}, 1e-3, meta_setup.__version__, {other!r}\n"
        f"if rank == '1': {variable} = {value}\n"
        "meta_setup.__version__ = version\n"
        f"meta_train.meta_train(pathlib.Path(data), pathlib.Path({str(tmp_path / 'm')!r}), "
        "replace(QUICK, lr=lr), device='cpu')"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [*TORCHRUN, "2", str(script)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode != 0
    assert message in done.stderr
    assert not (tmp_path / "m").exists()
