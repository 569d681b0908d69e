"""Names of models: what is a file, what is a baseline, and what is said of anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_lite.core.errors import UsageError
from fewshot_lite.evaluation.names import BASELINES, check_pattern, parse_models


def parse(*texts: str, backbone: str = "default") -> list[tuple[str | None, str]]:
    return [(name.baseline, name.base) for name in parse_models(texts, backbone)]


def test_checkpoints_baselines_and_backbones(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    file.touch()
    assert parse("default", str(file)) == [(None, "default"), (None, str(file))]
    assert parse(*BASELINES, backbone="resnet50") == [(name, "resnet50") for name in BASELINES]
    assert parse("knn:resnet18", f"ridge:{file}") == [("knn", "resnet18"), ("ridge", str(file))]


def test_a_file_named_like_a_baseline_needs_a_separator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cosine").touch()
    Path("other").touch()
    assert parse("cosine", "./cosine", "other") == [
        ("cosine", "default"),
        (None, "./cosine"),
        (None, "other"),
    ]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["nearest"], "nearest: no such model. Give default, a file, or cosine, euclidean"),
        (["gone.safetensors"], "gone.safetensors: no such file"),
        (["knn:gone/x.safetensors"], "knn:gone/x.safetensors: there is no file"),
        (["knn:"], "no backbone after the colon"),
        (["knn", "ridge", "knn"], "knn: named twice"),
        ([], "No model to evaluate"),
    ],
)
def test_what_cannot_be_meant_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(*texts)


@pytest.mark.parametrize(
    ("models", "pattern", "message"),
    [
        (["cosine", "finetune-head"], "01", "for finetune-film and finetune, and neither is"),
        (["finetune"], "", "must have a digit 0 or 1 for each layer"),
        (["finetune"], "0x1", "--pattern 0x1: must have a digit 0 or 1 for each layer"),
    ],
)
def test_patterns_are_of_what_has_layers(models: list[str], pattern: str, message: str) -> None:
    names = parse_models(models, "resnet18")
    with pytest.raises(UsageError, match=message):
        check_pattern(pattern, names)
    check_pattern(None, names)


def test_a_pattern_is_taken_by_fine_tuning() -> None:
    check_pattern("000011", parse_models(["cosine", "finetune-film"], "resnet18"))
