"""A personal model's own file, run without torch, answers as torch does and is checked alike."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import fewshot_lite
from command_line import run_lines
from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.heads.adapted import AdaptedHead
from fewshot_lite.heads.features import class_means, root_features
from fewshot_lite.personal import torch_free_model
from fewshot_lite.personal.editing import add, remove, rename
from fewshot_lite.personal.loading import open_personal
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.report.adapting import adapt_page
from fewshot_lite.personal.report.classifying import ClassifyReport
from fewshot_lite.personal.report.reasons import similarity
from fewshot_lite.personal.torch_free_model import TorchFreeModel
from photos import draw_classes

#: Side of the images, whose halves are odd numbers now and then.
SIZE = 52


@pytest.fixture(scope="module")
def base() -> MetaModel:
    model = fewshot_lite.load()
    model.image_size = SIZE
    return model


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_classes(tmp_path_factory.mktemp("things"), {"mug": 5, "keys": 3, "hat": 1})


@pytest.fixture(scope="module")
def file(base: MetaModel, things: Path) -> Path:
    return base.adapt(things).save(things.parent / "mine.safetensors")


def check_alike(path: Path, photos: list[Path]) -> None:
    """Both engines' answers to photos and to noise."""
    mine, theirs = open_personal(path), PersonalModel.load(path)
    assert isinstance(mine, TorchFreeModel)
    noise = np.random.default_rng(0).integers(0, 256, (20, 3, SIZE, SIZE), np.uint8)
    for found, expected in zip(mine.answers_of(noise), theirs.answers_of(noise), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for careful in (False, True):
        mine.careful = theirs.careful = careful
        answers = [
            [(p.label, p.unknown, p.problem) for p in model.classify(photos)]
            for model in (mine, theirs)
        ]
        assert answers[0] == answers[1]
    for reject in (0, 0.05, 0.4):
        assert mine.threshold(reject) == pytest.approx(theirs.threshold(reject), rel=1e-6)


def test_answers(file: Path, things: Path) -> None:
    (things.parent / "bad.jpg").write_text("no photo")
    check_alike(file, [*sorted(things.rglob("*.png")), things.parent / "bad.jpg"])


def test_answers_after_edits_of_the_file(file: Path, things: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    draw_classes(more, {"mug": 1, "keys": 1, "hat": 1, "cup": 2})
    for name in ("mug", "keys", "hat"):
        shutil.rmtree(more / name)
    edited = tmp_path / "edited.safetensors"
    larger = add(PersonalModel.load(file), more).model
    check_alike(larger.save(edited), sorted(more.rglob("*.png")))
    other = remove(rename(larger, "mug", "red mug").model, ["keys"]).model
    check_alike(other.save(edited, force=True), sorted(things.rglob("*.png")))


@pytest.mark.parametrize("refitted", [False, True])
def test_answers_of_a_head_of_a_network_that_gradient_steps_adapted(
    file: Path, tmp_path: Path, refitted: bool
) -> None:
    model = PersonalModel.load(file)
    head = AdaptedHead.of(torch.randn(3, 1280), torch.randn(3), 0.5, normalised=True)
    contents = replace(
        model.contents,
        features=model.contents.features[:, :1],
        support_strangeness=model.support_strangeness,
        leave_one_out_logits=model.leave_one_out_logits().numpy(),
    )
    adapted = PersonalModel(model.backbone, model.head if refitted else head, contents)
    check_alike(adapted.save(tmp_path / "adapted.safetensors"), [])


def changed(file: Path, output: Path, tensors: dict[str, Any], meta: dict[str, Any]) -> Path:
    """A copy with other contents, and the checksum of those."""
    found = checkpoint.load(file, "personal")
    kept = {**found.tensors, **tensors}
    kept = {name: value for name, value in kept.items() if value is not None}
    checkpoint.save(output, "personal", kept, {**found.meta, **meta})
    return output


@pytest.mark.parametrize(
    ("tensors", "meta"),
    [
        ({"support.features": torch.zeros(9, 3, 8)}, {}),
        ({"support.labels": torch.zeros(9, dtype=torch.int64)}, {}),
        ({"support.left_out": torch.zeros(9)}, {}),
        ({"support.left_out_logits": torch.zeros(9, 2)}, {}),
        ({"head.factor": torch.tensor(float("nan"))}, {}),
        ({"head.other": torch.tensor(1.0)}, {}),
        ({"network.features.0.1.bias": None}, {}),
        ({"network.features.1.project.0.weight": torch.zeros(16, 32, 3, 3)}, {}),
        ({"network.other": torch.zeros(3)}, {}),
        ({}, {"head": {"name": "max"}}),
        ({}, {"class_names": ["a", "b", 3]}),
        ({}, {"image_size": 10**6}),
        ({}, {"mean": [0.5, 0.5]}),
        ({}, {"std": [0.5, 0.0, 0.5]}),
        ({}, {"photos": ["one"]}),
    ],
)
def test_what_torch_calls_damaged_is_left_to_torch(
    file: Path, tmp_path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]
) -> None:
    bad = changed(file, tmp_path / "bad.safetensors", tensors, meta)
    assert TorchFreeModel.load(bad) is None
    if "head" in meta:
        with pytest.raises(FewshotError, match=r"--model .*bad\.safetensors: damaged"):
            open_personal(bad)


@pytest.mark.parametrize(
    "tensors",
    [
        {"support.left_out": None},  # of files of before
        {"network.features.0.1.bias": torch.full((32,), torch.nan)},  # answers are not finite
        {"network.features.0.1.bias": torch.zeros(32, dtype=torch.bfloat16)},
        {"network.features.0.1.bias": torch.zeros(32, dtype=torch.float64)},
    ],
)
def test_what_torch_alone_can_run_is_left_to_it(
    file: Path, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    assert isinstance(
        open_personal(changed(file, tmp_path / "other.safetensors", tensors, {})), PersonalModel
    )


def test_a_bit_that_flips_is_noticed(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    flipped = tmp_path / "flipped.safetensors"
    for position in range(9, len(data), len(data) // 20):
        damaged = bytearray(data)
        damaged[position] ^= 1
        flipped.write_bytes(damaged)
        with pytest.raises(FewshotError, match=r"damaged|not a safetensors"):
            open_personal(flipped)


def test_without_onnxruntime_torch_runs_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(model: bytes) -> Callable[..., Any]:
        raise ModuleNotFoundError("onnxruntime")

    monkeypatch.setattr(torch_free_model, "open_session", missing)
    assert isinstance(open_personal(file), PersonalModel)


def test_other_devices_take_torch(file: Path) -> None:
    assert isinstance(open_personal(file, device="cpu:0"), PersonalModel)
    assert isinstance(open_personal(file, with_photos=True), PersonalModel)


@pytest.mark.slow
def test_reports_show_the_same_by_either_engine(file: Path, things: Path) -> None:
    mine, theirs = open_personal(file), PersonalModel.load(file)
    assert isinstance(mine, TorchFreeModel)
    assert adapt_page(mine) == adapt_page(theirs)
    features = mine.features[::-1].copy()
    np.testing.assert_allclose(similarity(mine, features), similarity(theirs, features), atol=1e-6)
    by_torch = likeness_by_torch(theirs, torch.from_numpy(features))
    np.testing.assert_allclose(similarity(mine, features), by_torch.numpy(), atol=1e-6)
    pages = []
    for model in (mine, theirs):
        report = ClassifyReport(model)
        for answer in model.classify(sorted(things.rglob("*.png"))):
            report.add(answer)
        pages.append(report.page())
    assert "Most like" in pages[0]
    assert "exported" not in pages[0]
    assert pages[0] == pages[1]


def likeness_by_torch(personal: PersonalModel, features: Tensor) -> Tensor:
    """The formula of `reasons`, with C^(-1/2) as it stands."""
    support, queries = (root_features(x.double()) for x in (personal.features, features))
    means, _ = class_means(support, personal.labels, len(personal.class_names))
    x = support - means[personal.labels]
    c = x.mT @ x / len(x)
    c += c.trace() / len(c) * torch.eye(len(c), dtype=c.dtype)
    values, vectors = torch.linalg.eigh(c)
    root = vectors @ (values.rsqrt()[:, None] * vectors.mT)
    queries, support = ((y - support.mean(0)) @ root for y in (queries, support))
    return F.normalize(queries, dim=1) @ F.normalize(support, dim=1).mT


@pytest.mark.slow
def test_reports_take_no_torch(file: Path, things: Path, tmp_path: Path) -> None:
    words = ["classify", things, "--model", file, "--report", tmp_path / "c.html"]
    (_, code, torch_imported, _) = run_lines([[str(word) for word in words]])[0][1]
    assert (code, torch_imported) == (0, False)
    assert "Most like" in (tmp_path / "c.html").read_text(encoding="utf-8")
