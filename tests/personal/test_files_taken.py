"""Kinds of files x entry points: photos of all formats and videos go in wherever photos do.

What is no file (arrays, tensors and so on) is in test_inputs_taken.py; docs/how-to/photos.md has
the table.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from clips import looks, write_clip
from command_line import Run
from exported import exported_small_personal
from fewshot_lite import FewShotClassifier
from fewshot_lite.personal.exported_model import ExportedModel
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from photos import tiny_model

pytestmark = pytest.mark.slow

Write = Callable[[Path, int, int], None]


def photo(**options: object) -> Write:
    """How a photo of this class and number is written, in the format of the ending."""

    def write(path: Path, number: int, seed: int) -> None:
        looks(number, 1, seed)[0].save(path, **options)  # type: ignore[arg-type]

    return write


def heic(path: Path, number: int, seed: int) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    looks(number, 1, seed)[0].save(path, "HEIF")


def avif(path: Path, number: int, seed: int) -> None:
    if "avif" not in features.modules or not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    looks(number, 1, seed)[0].save(path, "AVIF")


def deep(path: Path, number: int, seed: int) -> None:
    """Grey, 12 bits in 16."""
    grey = np.asarray(looks(number, 1, seed)[0].convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 16).save(path)


def video(path: Path, number: int, seed: int) -> None:
    pytest.importorskip("av")
    write_clip(path, looks(number, 5, seed))


#: The rows: endings, and how files of them are written.
KINDS: dict[str, Write] = {
    "png": photo(),
    "JPG": photo(quality=95),
    "webp": photo(),
    "gif": photo(),
    "tiff": photo(),
    "tif": deep,
    "heic": heic,
    "avif": avif,
    "mp4": video,
    "MOV": video,
    "webm": lambda path, number, seed: write_webm(path, number, seed),
    "mkv": video,
    "avi": video,
}
VIDEOS = ("mp4", "MOV", "webm", "mkv", "avi")


def write_webm(path: Path, number: int, seed: int) -> None:
    pytest.importorskip("av")
    options = {"crf": "20", "b": "0", "deadline": "realtime"}
    write_clip(path, looks(number, 5, seed), codec="libvpx-vp9", options=options)


@pytest.fixture(scope="module")
def base() -> MetaModel:
    return tiny_model()


@pytest.fixture(scope="module")
def base_file(base: MetaModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "tiny.safetensors"
    base.save(path)
    return path


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two classes of two files of one kind each."""
    for number, name in enumerate(("keys", "mug")):
        (tmp_path / "things" / name).mkdir(parents=True)
        for seed in range(2):
            path = tmp_path / "things" / name / f"{seed}.{request.param}"
            KINDS[request.param](path, number, seed)
    return tmp_path / "things"


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_python(base: MetaModel, folder: Path, tmp_path: Path) -> None:
    """A folder, a ZIP archive, a table, paths and bytes are adapted to alike."""
    paths = files(folder)
    labels = [path.parent.name for path in paths]
    mine = base.adapt(folder)
    assert mine.examples == {"keys": 2, "mug": 2}
    assert mine.clips == (paths[0].suffix[1:] in VIDEOS)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in paths:
            archive.write(path, path.relative_to(tmp_path))
    table = tmp_path / "labels.csv"
    table.write_text("".join(f"{p.relative_to(folder)},{p.parent.name}\n" for p in paths))
    others = [
        base.adapt(tmp_path / "a.zip"),
        base.adapt(folder, table),
        base.adapt(paths, labels),
        base.adapt([path.read_bytes() for path in paths], labels),
    ]
    for other in others:
        torch.testing.assert_close(other.features, mine.features)
        assert other.groups.tolist() == mine.groups.tolist()
    answers = mine.classify(folder)
    assert [answer.problem for answer in answers] == [None] * 4
    assert mine.classify(paths) == answers
    from_bytes = mine.classify([path.read_bytes() for path in paths])
    assert [answer.labels for answer in from_bytes] == [answer.labels for answer in answers]


def test_the_estimator(base_file: Path, folder: Path) -> None:
    paths = files(folder)
    labels = [path.parent.name for path in paths]
    fitted = FewShotClassifier(base_file).fit(paths, labels)
    assert fitted.predict([path.read_bytes() for path in paths]).shape == (4,)
    assert FewShotClassifier(base_file).fit(folder).model_.examples == {"keys": 2, "mug": 2}


def test_the_shell(
    run: Run, base_file: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run("adapt", "things", "--base", base_file, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["skipped"] == []
    answers = run("classify", "things", *files(folder)[:1], "--json").json
    assert [answer["problem"] for answer in answers] == [None] * 5
    expected = PersonalModel.load().classify(folder, reject=0.05)
    assert [answer["label"] for answer in answers[:4]] == [answer.label for answer in expected]
    assert run("check", "things").code == 0


@pytest.mark.slow
def test_an_export(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(exported_small_personal())
    answers = ExportedModel.load(path).classify(folder)
    assert [answer.problem for answer in answers] == [None] * 4
