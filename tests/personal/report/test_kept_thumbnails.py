"""Thumbnails travel with the model: into its file, through edits, and never into exports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from exported import small_personal
from fewshot_lite.cli.render.terminal import _info_rows
from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.images.thumbnails import make_thumbnails
from fewshot_lite.personal import editing
from fewshot_lite.personal.export.writing import PixelProgram, describe_export, export_model
from fewshot_lite.personal.personal_model import PersonalModel
from photos import draw_classes, tiny_model


@pytest.fixture(scope="module")
def personal(tmp_path_factory: pytest.TempPathFactory) -> PersonalModel:
    return tiny_model().adapt(draw_classes(tmp_path_factory.mktemp("t"), {"mug": 3, "keys": 2}))


def pairs(personal: PersonalModel) -> dict[str, bytes]:
    return dict(zip(personal.photos, personal.thumbnails, strict=True))


def test_a_file_keeps_them_unless_told_not_to(personal: PersonalModel, tmp_path: Path) -> None:
    path = personal.save(tmp_path / "mine.safetensors")
    assert PersonalModel.load(path).thumbnails == personal.thumbnails
    assert len(set(personal.thumbnails)) == 5
    assert ("thumbnails", "of 5 photos") in list(_info_rows(checkpoint.read_meta(path)))
    bare = personal.save(tmp_path / "bare.safetensors", thumbnails=False)
    assert PersonalModel.load(bare).thumbnails == ()
    assert b"\xff\xd8\xff" not in bare.read_bytes()
    assert len(personal.thumbnails) == 5


def test_a_model_can_be_made_without(tmp_path: Path) -> None:
    things = draw_classes(tmp_path / "t", {"mug": 2, "keys": 2})
    personal = tiny_model().adapt(things, thumbnails=False)
    assert personal.thumbnails == ()
    more = draw_classes(tmp_path / "m", {"box": 2}, seed=3)
    assert editing.add(personal, more).model.thumbnails == ()


def test_files_of_before_there_were_any_load(personal: PersonalModel, tmp_path: Path) -> None:
    path = personal.save(tmp_path / "mine.safetensors", thumbnails=False)
    file = checkpoint.load(path, "personal")
    meta = {k: v for k, v in file.meta.items() if k not in ("format", "kind", "thumbnails")}
    checkpoint.save(path, "personal", file.tensors, meta)
    assert PersonalModel.load(path).thumbnails == ()


DAMAGE = {
    "no sizes": {"support.thumbnail_sizes": None},
    "other number": {"support.thumbnail_sizes": torch.zeros(4, dtype=torch.int64)},
    "other type of sizes": {"support.thumbnail_sizes": torch.zeros(5)},
    "negative": {"support.thumbnail_sizes": torch.tensor([-1, 1, 0, 0, 0])},
    "overflow": {"support.thumbnail_sizes": torch.full((5,), 2**62)},
    "other type": {"support.thumbnails": torch.zeros(9)},
    "other shape": {"support.thumbnails": torch.zeros(3, 3, dtype=torch.uint8)},
    "truncated": {"support.thumbnails": torch.zeros(9, dtype=torch.uint8)},
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_one_clear_line(
    personal: PersonalModel, tmp_path: Path, change: dict[str, torch.Tensor | None]
) -> None:
    path = personal.save(tmp_path / "mine.safetensors")
    file = checkpoint.load(path, "personal")
    tensors = {k: v for k, v in (file.tensors | change).items() if v is not None}
    meta = {k: v for k, v in file.meta.items() if k not in ("format", "kind")}
    checkpoint.save(path, "personal", tensors, meta)
    with pytest.raises(FewshotError, match=r"damaged \(.*thumbnail"):
        PersonalModel.load(path)


def test_edits_carry_them_along(personal: PersonalModel, tmp_path: Path) -> None:
    before = pairs(personal)
    more = draw_classes(tmp_path / "m", {"mug": 1, "box": 2}, seed=5)
    (more / "mug/00.png").rename(more / "mug/new.png")
    added = editing.add(personal, more).model
    after = pairs(added)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"box/00.png", "box/01.png", "mug/new.png"}
    assert len(set(after.values())) == 8
    assert all(jpeg.startswith(b"\xff\xd8\xff") for jpeg in after.values())
    less = pairs(editing.remove(added, ["keys"], ["mug/01.png"]).model)
    assert less == {n: j for n, j in after.items() if n[:4] != "keys" and n != "mug/01.png"}
    renamed = editing.rename(added, "box", "aaa").model
    assert pairs(renamed) == after


def test_features_without_pictures_leave_gaps(personal: PersonalModel, tmp_path: Path) -> None:
    features = torch.rand(1, *personal.views.shape[1:])
    model = editing.add_features(personal, features, ["mug"], ["mug/x"]).model
    assert model.thumbnails == (*personal.thumbnails, b"")
    path = model.save(tmp_path / "m.safetensors")
    assert PersonalModel.load(path).thumbnails == model.thumbnails


def test_exports_have_none() -> None:
    personal = small_personal()
    images = torch.randint(0, 256, (len(personal.labels), 3, 32, 32), dtype=torch.uint8)
    pictures = make_thumbnails(images.numpy())
    personal.contents = replace(personal.contents, thumbnails=pictures)
    program = PixelProgram(personal)
    assert all(t.dtype.is_floating_point or t.numel() < 2 for t in program.state_dict().values())
    assert "thumbnail" not in json.dumps(describe_export(personal, None))


@pytest.mark.slow
def test_an_exported_file_has_none(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    personal = small_personal()
    images = torch.randint(0, 256, (len(personal.labels), 3, 32, 32), dtype=torch.uint8)
    pictures = make_thumbnails(images.numpy())
    personal.contents = replace(personal.contents, thumbnails=pictures)
    written = export_model(personal, tmp_path / "m.onnx").path.read_bytes()
    assert b"\xff\xd8\xff" not in written
