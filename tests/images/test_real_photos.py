"""The shipped model on real photos, where there are any; see the marker "data"."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

import fewshot_lite
from fewshot_lite.core.files import models_folder
from fewshot_lite.images.folders import scan_classes

DATA = Path(os.environ.get("FEWSHOT_LITE_DATA", ""))
PHOTOS = DATA / "clothing-original-size.zip"

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("FEWSHOT_LITE_DATA") or not PHOTOS.exists(),
        reason="needs FEWSHOT_LITE_DATA with clothing-original-size.zip",
    ),
    pytest.mark.skipif(not any(models_folder().glob("*.safetensors")), reason="no shipped model"),
]


def test_five_photos_of_each_of_five_garments_are_enough_to_beat_chance(tmp_path: Path) -> None:
    with zipfile.ZipFile(PHOTOS) as archive:
        archive.extractall(tmp_path / "all")
    folder = scan_classes(tmp_path / "all")
    asked = []
    for name, indices in zip(folder.class_names, folder.indices_by_class(), strict=True):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in indices[:5]:
            folder.paths[i].rename(tmp_path / "mine" / name / folder.paths[i].name)
        asked += [folder.paths[i] for i in indices[5:]]
    personal = fewshot_lite.load().adapt(tmp_path / "mine")
    answers = personal.classify(asked)
    correct = sum(a.label == p.parent.name for a, p in zip(answers, asked, strict=True))
    assert len(asked) == 75
    assert correct > 30  # 15 by chance; more than 5 standard deviations above
