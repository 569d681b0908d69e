"""docs/personal-file.md lists what is in the file of a personal model, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clips import looks, write_clip
from documents import ROOT
from fewshot_lite import FewShotClassifier
from fewshot_lite.core.checksums import CHECKSUM
from fewshot_lite.core.tensor_files import FORMAT, KEY, read_any
from fewshot_lite.heads.registry import NAMED_HEADS
from fewshot_lite.learners import Frozen
from fewshot_lite.maml.refined import RefinedLearner, Refinement
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.personal import meta_model
from fewshot_lite.personal.editing import rename
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from photos import SIZE, draw_classes, tiny_model

PAGE = (ROOT / "docs" / "personal-file.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, list[str]]:
    """The other cells of a section's table by each name in the first."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = {}
    for line in re.findall(r"^\| (`.*) \|$", section, re.MULTILINE):
        first, *others = line.split(" | ")
        found |= dict.fromkeys(re.findall(r"`([^`]+)`", first), others)
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Tensors and metadata of models that have all that a model may have."""
    home = tmp_path_factory.mktemp("files")
    things = draw_classes(home / "things", {"mug": 3, "keys": 2})
    write_clip(things / "mug" / "film.mp4", looks(0, 4))
    deep = np.full((SIZE, SIZE), 4000, np.uint16)
    Image.fromarray(deep).save(things / "mug" / "deep.png")
    frozen = Frozen(Backbone("conv4", SIZE, seed=1).eval(), head=NAMED_HEADS["mahalanobis-root"]())
    with pytest.MonkeyPatch.context() as patch:
        quick = Refinement(steps=1, batch=8)
        patch.setattr(
            meta_model, "RefinedLearner", lambda own, _, **more: RefinedLearner(own, quick, **more)
        )
        refined = MetaModel(frozen.requires_grad_(False), SIZE).adapt(things, refine="on")
    tiny_model().save(home / "base.safetensors")
    FewShotClassifier(home / "base.safetensors").fit(things).save(home / "estimator")
    edited = rename(PersonalModel.load(home / "estimator"), "mug", "cup").model
    paths = [refined.save(home / "refined"), edited.save(home / "edited")]
    found = []
    for path in (*paths, home / "estimator"):
        tensors, meta = read_any(path)
        assert meta is not None
        found.append((tensors, {**meta, CHECKSUM: ""}))  # which `read_any` has taken out
    return found


def test_it_names_every_tensor_with_its_type_and_shape(
    files: list[tuple[dict[str, Any], dict[str, Any]]],
) -> None:
    told = rows("Tensors")
    seen = set()
    for tensors, _ in files:
        for name, tensor in tensors.items():
            place = name if name.startswith("support.") else f"{name.partition('.')[0]}.*"
            seen.add(place)
            kinds, shape = told[place][:2]
            assert str(tensor.dtype).removeprefix("torch.") in kinds, name
            if shape != "any":
                assert shape.count(",") + 1 == tensor.ndim, name
    assert seen == set(told)


def test_it_names_every_key(files: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    assert {key for _, meta in files for key in meta} == set(rows("Metadata")) - {"crc32"}
    known = set(rows("Provenance"))
    assert {key for _, meta in files for key in meta["provenance"]} == known


def test_it_tells_the_format() -> None:
    assert rows("Metadata")["format"][0].startswith(f"{FORMAT};")
    assert f"`{KEY}`" in PAGE
