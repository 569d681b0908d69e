"""The scripts of the figures: all of them start, and those of cost run at a tiny size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.published_lite import PublishedLite, class_precisions, distances
from documents import ROOT
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.learners import SimpleCnaps
from fewshot_lite.learners.task import Task
from fewshot_lite.networks.weights import load_backbone

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").glob("*/*.py")
    if path.name != "__init__.py"
)
_START = """
import argparse, importlib, sys
def stop(parser, *_, **__):
    assert parser.description, "no docstring"
    raise SystemExit("parsed")
argparse.ArgumentParser.parse_args = argparse.ArgumentParser.parse_known_args = stop
for name in sys.argv[1:]:
    try:
        importlib.import_module(name).main()
    except SystemExit as end:
        assert end.code == "parsed", name
    print(name)
"""
_SMALL = ("--image-size", "32", "--way", "3", "--queries", "6", "--h", "4", "--repeats", "1")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # threads that wait for each other in turns
    return subprocess.run(
        words, capture_output=True, text=True, timeout=600, check=False, env=alone, cwd=ROOT
    )


def printed(*words: str) -> Any:
    """The result that a script printed as JSON, with where it ran and from what seed or sizes."""
    done = run(sys.executable, "-m", *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"torch", "torchvision", "cpu", "python"} <= set(found["machine"])
    assert found["arguments"]
    return found["result"]


@pytest.mark.slow
def test_every_script_is_there_to_start() -> None:
    assert len(MODULES) > 10
    done = run(sys.executable, "-c", _START, *MODULES)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == MODULES


@pytest.mark.slow
def test_a_step_in_both_precisions_and_all_modes() -> None:
    words = ("--backbones", "resnet18", "--sizes", "6,12", "--device", "cpu", *_SMALL)
    rows = printed(
        "benchmarks.cost.lite_step", *words, "--precisions", "float32,bfloat16"
    ) + printed("benchmarks.cost.lite_step", *words, "--modes", "all,full")
    assert [(row["mode"], row["precision"], row["support"]) for row in rows] == [
        ("lite", "float32", 6),
        ("lite", "float32", 12),
        ("lite", "bfloat16", 6),
        ("lite", "bfloat16", 12),
        ("all", "auto", 6),
        ("all", "auto", 12),
        ("full", "auto", 6),
        ("full", "auto", 12),
    ]
    for row in rows:
        assert row["peak_mib"] > row["images_mib"] >= 0
        assert row["ratios"]["step / floor"] > 0


@pytest.mark.slow
def test_the_published_step_is_measured_beside_ours_and_rows_are_kept(tmp_path: Path) -> None:
    words = ("--backbones", "mobilenet_v2", "--sizes", "6", "--device", "cpu", *_SMALL)
    words = (*words, "--film-layers", "depthwise", "--keep", str(tmp_path / "rows.json"))
    done = run(sys.executable, "-m", "benchmarks.cost.lite_step", *words, "--modes", "published")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (row,) = json.loads((tmp_path / "rows.json").read_text())["result"]
    assert 0 < row["ratios"]["lite / step"] < 1
    assert set(row["processor_seconds"]) == {"step", "floor", "lite"}


@pytest.mark.slow
def test_a_step_whose_lower_stages_are_computed_once_has_a_floor_too() -> None:
    words = ("--backbones", "resnet18", "--sizes", "6", "--device", "cpu", *_SMALL)
    (row,) = printed("benchmarks.cost.lite_step", *words, "--film-stages", "2")
    assert row["ratios"]["step / floor"] > 0


@pytest.mark.slow
def test_a_compiled_step_is_measured_beside_the_usual_one() -> None:
    words = ("--backbones", "conv4", "--sizes", "6", "--device", "cpu", *_SMALL)
    rows = printed("benchmarks.cost.lite_step", *words, "--compiled", "no,yes")
    assert [row["compiled"] for row in rows] == ["no", "yes"]
    if "failed" in rows[1]:
        assert "--compile: torch.compile does not work" in rows[1]["failed"]
    else:
        assert all(row["first_seconds"] > 0 for row in rows)


def test_the_published_step_has_a_gradient_for_all_that_it_learns() -> None:
    learner = SimpleCnaps(load_backbone("shufflenet_v2_x0_5", "none", 32)[0])
    model = PublishedLite(learner)
    images = torch.rand(15, 3, 32, 32)
    labels = torch.arange(15) % 3
    task = Task(images[:9], labels[:9], images[9:], labels[9:], 3)
    model.step(task, 4, torch.Generator().manual_seed(0))
    learned = dict(model.named_parameters())
    assert all((p.grad is not None) == p.requires_grad for p in learned.values())
    assert not any(hooks for m in model.modules() if (hooks := m._forward_hooks))


def test_the_published_head_measures_as_ours_does() -> None:
    random = torch.Generator().manual_seed(0)
    features, labels = torch.randn(12, 5, generator=random), torch.arange(12) % 3
    queries = torch.randn(4, 5, generator=random)
    ours = MahalanobisHead(fixed_temperature=True)
    expected = ours.logits(ours.fit(features, labels, 3), queries)
    torch.testing.assert_close(distances(queries, *class_precisions(features, labels)), expected)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_step_says_so_in_one_line() -> None:
    done = run(sys.executable, "-m", "benchmarks.cost.lite_step", "--device", "cuda")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "there is no CUDA device here" in line


@pytest.mark.slow
def test_the_script_for_a_gpu_can_be_tried_on_a_cpu(tmp_path: Path) -> None:
    own = os.environ["PATH"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own}"
    try:
        done = run("bash", "benchmarks/gpu.sh", "--trial", str(tmp_path))
    finally:
        os.environ["PATH"] = own
    assert done.returncode == 0, done.stdout + done.stderr
    assert "compiled: left out of a trial" in done.stdout
    for name in ("step", "full", "published", "throughput"):
        assert json.loads((tmp_path / f"{name}.json").read_text())["result"]
