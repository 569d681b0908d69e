"""A base adapted without torch gives the model that torch adapts, in the memory of a few photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

import fewshot_lite
from clips import draw_clips
from command_line import run_lines
from fewshot_lite.core import checkpoint, tensor_files
from fewshot_lite.core.config import HeadName
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.personal import torch_free_base
from fewshot_lite.personal.growth import expected_growth
from fewshot_lite.personal.loading import open_base
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.quality import assess
from fewshot_lite.personal.torch_free_base import TorchFreeBase
from photos import draw_classes, tiny_model

#: Side of the images, whose halves are odd numbers now and then.
SIZE = 52


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped base for small images."""
    model = fewshot_lite.load()
    model.image_size = SIZE
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = draw_classes(tmp_path_factory.mktemp("things"), {"mug": 6, "keys": 4, "hat": 1})
    (folder / "mug" / "broken.jpg").write_text("no photo")
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips and photos."""
    pytest.importorskip("av")
    folder = draw_classes(tmp_path_factory.mktemp("films"), {"mug": 1, "hat": 2})
    return draw_clips(folder, {"mug": 2, "hat": 0, "keys": 2}, frames=4)


def opened(path: Path) -> TorchFreeBase:
    found = open_base(path)
    assert isinstance(found, TorchFreeBase)
    return found


@pytest.mark.parametrize(
    ("folder", "given"),
    [
        ("things", {}),
        pytest.param("things", {"views": 1}, marks=pytest.mark.slow),
        pytest.param("things", {"mirror": False}, marks=pytest.mark.slow),
        pytest.param("things", {"mirror": True}, marks=pytest.mark.slow),
        pytest.param("films", {"frames": 3}, marks=pytest.mark.slow),
        pytest.param("things", {"head": "auto"}, marks=pytest.mark.slow),
        pytest.param("films", {"head": "auto"}, marks=pytest.mark.slow),
        *(
            pytest.param("things", {"head": head}, marks=pytest.mark.slow)
            for head in get_args(HeadName)[2:]
        ),
    ],
)
def test_the_file_is_that_of_torch(
    request: pytest.FixtureRequest,
    base: Path,
    tmp_path: Path,
    folder: str,
    given: dict[str, Any],
) -> None:
    things = request.getfixturevalue(folder)
    files = tmp_path / "with.safetensors", tmp_path / "without.safetensors"
    MetaModel.load(base).adapt(things, **given).save(files[0])
    opened(base).adapt(things, **given).save(files[1])
    (expected, about), (found, said) = (
        tensor_files.read(file, "personal", framework="np") for file in files
    )
    factors = []
    for entry in (about, said):
        del entry["provenance"]["created"]
        factors.append(entry["provenance"]["head"].pop("temperature_factor"))
    assert factors[0] == pytest.approx(factors[1])
    assert said == about
    assert set(found) == set(expected)
    assert ("support.groups" in found) == (folder == "films")
    for name, value in expected.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_what_is_said_of_the_model_is_what_is_said_of_its_file(
    base: Path, things: Path, tmp_path: Path
) -> None:
    adapted = opened(base).adapt(things)
    loaded = PersonalModel.load(adapted.save(tmp_path / "mine.safetensors"))
    told, of_file = assess(adapted), assess(loaded)
    assert told == of_file
    assert expected_growth(adapted, told) == expected_growth(loaded, of_file)
    assert adapted.adaptation is not None
    assert adapted.adaptation.used == (1, 4, 6)
    assert adapted.adaptation.skipped_per_class == (0, 0, 1)
    photos = sorted(things.rglob("*.png"))
    for mine, theirs in zip(adapted.classify(photos), loaded.classify(photos), strict=True):
        assert (mine.label, mine.unknown) == (theirs.label, theirs.unknown)


def test_squares_are_taken_as_they_are(base: Path) -> None:
    images = torch.randint(0, 256, (6, 3, SIZE, SIZE), dtype=torch.uint8)
    labels = ["a", "b"] * 3
    found = opened(base).adapt(images, labels)
    expected = MetaModel.load(base).adapt(images, labels)
    np.testing.assert_allclose(found.features, expected.features.numpy(), atol=1e-4)
    assert found.thumbnails == expected.thumbnails
    assert "_logits" not in vars(found)  # a head is fitted when it is asked
    again = opened(base).adapt(images.float() / 255, labels, thumbnails=False)
    assert again.thumbnails == ()
    np.testing.assert_array_equal(again.features, found.features)


def test_maps_wait_in_a_file_where_they_are_many(
    base: Path, things: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = opened(base).adapt(things)
    monkeypatch.setattr(torch_free_base, "_IN_MEMORY", 1)
    monkeypatch.setattr(torch_free_base, "_BATCH", 2)
    done: list[tuple[int, int]] = []
    found = opened(base).adapt(things, on_embedded=lambda *counts: done.append(counts))
    np.testing.assert_allclose(found.features, expected.features, atol=1e-6)
    assert done == sorted(done)
    assert done[-1] == (11, 11)


def test_a_full_disk_is_told(base: Path, things: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, _: int) -> None: ...

        def write(self, _: object) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None: ...

    monkeypatch.setattr(torch_free_base, "SpooledTemporaryFile", Full)
    with pytest.raises(FewshotError, match="TMPDIR"):
        opened(base).adapt(things)


@pytest.mark.slow
def test_torch_takes_what_is_beyond_it(base: Path, tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "tiny.safetensors")
    assert isinstance(open_base(tmp_path / "tiny.safetensors"), MetaModel)
    assert isinstance(open_base(base, without_torch=False), MetaModel)
    assert isinstance(open_base(base, device="cpu:0"), MetaModel)
    file = checkpoint.load(base, "meta")
    del file.tensors["set_encoder.layers.0.bias"]
    checkpoint.save(tmp_path / "less.safetensors", "meta", file.tensors, file.meta)
    with pytest.raises(FewshotError, match=r"less\.safetensors: damaged"):
        open_base(tmp_path / "less.safetensors")
    file = checkpoint.load(base, "meta")
    file.tensors["head.log_beta"].fill_(800.0)
    checkpoint.save(tmp_path / "large.safetensors", "meta", file.tensors, file.meta)
    with pytest.raises(FewshotError, match=r"large\.safetensors: damaged.*too large"):
        open_base(tmp_path / "large.safetensors")
    with pytest.raises(UsageError, match="no such file"):
        open_base(tmp_path / "none.safetensors")


@pytest.mark.slow
def test_the_command_does_not_import_torch(base: Path, things: Path, tmp_path: Path) -> None:
    words = ["adapt", things, "--base", base, "--workers", "1", "--output"]
    given = [[], ["--head", "auto"], ["--head", "ridge", "--report", tmp_path / "r.html"]]
    lines = [[*words, tmp_path / str(number), *more] for number, more in enumerate(given)]
    found, _ = run_lines([[str(word) for word in line] for line in lines])
    assert [(code, torch_imported) for _, code, torch_imported, _ in found[1:]] == [(0, False)] * 3
    assert (tmp_path / "0").is_file()
    assert "Network" in (tmp_path / "r.html").read_text(encoding="utf-8")
