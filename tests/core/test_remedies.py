"""What is said of a file that cannot be a model: one line that names it and says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError
from fewshot_lite.networks.weights import load_backbone
from fewshot_lite.personal.exported_model import ExportedModel
from fewshot_lite.personal.loading import describe, open_base, open_personal
from fewshot_lite.personal.undo import backup_of, undo
from fewshot_lite.training.curves import read_curves
from photos import tiny_model

READERS: dict[str, Callable[[Path], Any]] = {
    "base": open_base,
    "personal": open_personal,
    "export": ExportedModel.load,
    "info": describe,
    "weights": lambda path: load_backbone("resnet18", str(path), 32),
    "state": lambda path: checkpoint.load(path, "state", flag="--resume"),
    "undo": lambda path: undone(path),
    "log": read_curves,
}


def undone(path: Path) -> None:
    """What lies in the place of the model before."""
    if path.exists():
        path.rename(backup_of(path))
        path.touch()
    undo(path)


def text(path: Path) -> None:
    path.write_bytes(b"Dear reader,\n" * 20)


def cut(path: Path) -> None:
    whole = path.with_suffix(".safetensors")
    tiny_model().save(whole)
    whole.replace(path)
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path: Path) -> None:
    save_file({"a": torch.ones(2)}, path)


def without_description(path: Path) -> None:
    save_file({"a": torch.ones(2)}, path, metadata={"fewshot_lite": "{"})


def with_less(path: Path) -> None:
    kind = "personal" if "personal" in path.name else "meta"
    checkpoint.save(path, kind, {"a": torch.ones(2)}, {"backbone": "resnet18", "image_size": 32})


def folder(path: Path) -> None:
    path.mkdir()


def nothing(path: Path) -> None: ...


#: A full stop, and what to do.
_REMEDY = re.compile(
    r"[.;] (Give|Take|Check|Make|Save|Export|Begin|Adapt)\b|is needed here|nothing to undo"
)


@pytest.mark.parametrize(
    "make",
    [text, cut, foreign, without_description, with_less, folder, nothing],
    ids=lambda make: make.__name__,
)
@pytest.mark.parametrize("reader", READERS)
def test_each_refusal_names_the_file_and_says_what_to_do(
    reader: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    endings = {"export": "onnx", "log": "jsonl"}
    path = tmp_path / f"{reader}.{endings.get(reader, 'safetensors')}"
    make(path)
    if (reader, make) == ("info", with_less):  # its description is all that is asked for
        assert READERS[reader](path)["backbone"] == "resnet18"
        return
    with pytest.raises(FewshotError) as caught:
        READERS[reader](path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert _REMEDY.search(message), message
    assert make is not folder or "permissions" not in message
