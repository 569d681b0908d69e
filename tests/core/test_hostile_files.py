"""Files that claim to be ours, and outputs that would cost somebody something."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import check_output
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.training import state as training
from photos import classes, draw_classes, tiny_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base and a personal model, both whole."""
    folder = tmp_path_factory.mktemp("models")
    base = folder / "base.safetensors"
    tiny_model().save(base, half=True)
    photos = draw_classes(folder / "photos", classes(2, photos=2))
    personal = MetaModel.load(base).adapt(photos)
    return {"meta": base, "personal": personal.save(folder / "personal.safetensors")}


def rewritten(path: Path, target: Path, **changes: Any) -> Path:
    """The same file with other values in its description."""
    tensors, meta = checkpoint.read_any(path)
    assert meta is not None
    save_file(tensors, target, metadata={"fewshot_lite": json.dumps(meta | changes)})
    return target


def load(kind: str, path: Path) -> object:
    return MetaModel.load(path) if kind == "meta" else PersonalModel.load(path)


@pytest.mark.parametrize("kind", ["meta", "personal"])
def test_a_sparse_file_of_gigabytes_is_refused_before_its_tensors_are_read(
    models: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    whole = models[kind].read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    size = 5 * 2**30
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name[0] != "_")
    header["more"] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
    text = json.dumps(header).encode()
    path = tmp_path / "sparse.safetensors"
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + whole[8 + length :])
        file.truncate(8 + len(text) + end + size)
    with pytest.raises(FewshotError, match="larger than 4 GB"):
        load(kind, path)


@pytest.mark.parametrize("kind", ["meta", "personal"])
@pytest.mark.parametrize("size", [10**9, 20_000, 0, -5, "32", 32.5, True, None])
def test_an_image_size_no_model_has_is_damage(
    models: dict[str, Path], tmp_path: Path, kind: str, size: object
) -> None:
    path = rewritten(models[kind], tmp_path / "x.safetensors", image_size=size)
    with pytest.raises(FewshotError, match="damaged"):
        load(kind, path)


@pytest.mark.parametrize("names", ["ab", [1, 2], ["a"], ["a", "b", "c"], None])
def test_class_names_that_do_not_fit_are_damage(
    models: dict[str, Path], tmp_path: Path, names: object
) -> None:
    path = rewritten(models["personal"], tmp_path / "x.safetensors", class_names=names)
    with pytest.raises(FewshotError, match="damaged"):
        PersonalModel.load(path)


def test_a_description_nested_without_end_is_damage(
    models: dict[str, Path], tmp_path: Path
) -> None:
    with safe_open(models["personal"], framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, metadata={"fewshot_lite": "[" * 100_000})
    with pytest.raises(FewshotError, match="its description is damaged"):
        PersonalModel.load(path)


@pytest.mark.parametrize("name", ["run.jsonl", "run.state.safetensors"])
def test_a_new_run_leaves_files_beside_its_output_alone(tmp_path: Path, name: str) -> None:
    output, other = tmp_path / "run.safetensors", tmp_path / name
    training.check_new_run(output, force=False)
    other.write_text("precious")
    with pytest.raises(UsageError, match=name):
        training.check_new_run(output, force=False)
    training.check_new_run(output, force=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_no_output_even_by_force(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="a device or a pipe"):
        check_output(pipe, force=True)
