"""Exported files answer as the model, describe themselves, and are written whole or not at all."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import fewshot_lite
from exported import WIDTH, exported_small_personal, small_personal
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.core.files import sha256
from fewshot_lite.heads.base import Head
from fewshot_lite.heads.generated import GeneratedLinearHead
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.mean import MeanHead
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.ridge import RidgeHead
from fewshot_lite.personal.export import formats, writing
from fewshot_lite.personal.export.writing import PROBABILITY_TOLERANCE, export_model, probe_images
from fewshot_lite.personal.exported_model import ExportedModel
from fewshot_lite.personal.personal_model import PersonalModel
from photos import SIZE, draw_classes, tiny_model

NOISE = torch.randint(0, 256, (5, SIZE, SIZE, 3), dtype=torch.uint8)

#: Heads, and images of each class.
HEADS = [
    # Fewer images than features.
    pytest.param(
        MeanHead([MahalanobisHead(), RidgeHead(), PrototypeHead("cosine")]),
        (1, 3, 2, 1),
        marks=pytest.mark.slow,
    ),
    *(  # a conversion takes a second or two
        pytest.param(head, shots, marks=pytest.mark.slow)
        for head, shots in [
            (MahalanobisHead(root=True), (3,) * 40),  # many classes, more images than features
            (MahalanobisHead(), (1, 1)),
            (RidgeHead(root=False), (9, 9)),
            (PrototypeHead("euclidean"), (4, 2)),
            (PrototypeHead("cosine"), (4, 2, 1)),
            (GeneratedLinearHead(WIDTH), (4, 2, 1)),
        ]
    ),
]


def assert_answers_alike(personal: PersonalModel, got: tuple[np.ndarray, np.ndarray]) -> None:
    expected = personal.outputs(NOISE.permute(0, 3, 1, 2))
    assert expected.probabilities.std(0).max() > 1e-4, "all images alike would prove nothing"
    np.testing.assert_allclose(got[0], expected.probabilities, atol=PROBABILITY_TOLERANCE)
    np.testing.assert_allclose(got[1], expected.strangeness, rtol=1e-4)


@pytest.mark.parametrize(("head", "shots"), HEADS)
def test_onnx_answers_as_the_model(head: Head, shots: tuple[int, ...], tmp_path: Path) -> None:
    personal = small_personal(head, shots)
    result = export_model(personal, tmp_path / "p.onnx")
    assert result.class_names == personal.class_names
    assert_answers_alike(personal, ExportedModel.load(tmp_path / "p.onnx").outputs(NOISE.numpy()))


@pytest.mark.slow
def test_torch_export_answers_as_the_model_and_describes_itself(tmp_path: Path) -> None:
    personal = small_personal()
    result = export_model(personal, tmp_path / "p.pt2", format="torch-export")
    assert result.bytes == result.path.stat().st_size
    extra = {"fewshot_lite.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own making
        module = torch.export.load(result.path, extra_files=extra).module()
    with torch.no_grad():
        got = module(NOISE)
    assert_answers_alike(personal, (got[0].numpy(), got[1].numpy()))
    assert json.loads(extra["fewshot_lite.json"])["class_names"] == list(personal.class_names)


@pytest.mark.slow
def test_one_file_with_its_description_and_without_paths_of_this_computer() -> None:
    personal, data = small_personal(), exported_small_personal()
    network = onnx.load_from_string(data)
    onnx.checker.check_model(network)
    (entry,) = network.metadata_props
    about = json.loads(entry.value)
    assert entry.key == "fewshot_lite"
    assert about["image_size"] == SIZE
    assert about["threshold"] == pytest.approx(personal.threshold(0.05))
    assert about["threshold"] == about["thresholds"][49]
    assert about["provenance"] == {"base": {"name": "none"}}
    shapes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*network.graph.input, *network.graph.output)
    ]
    assert shapes == [["batch", SIZE, SIZE, 3], ["batch", 2], ["batch"]]
    assert str(Path(fewshot_lite.__file__).parent).encode() not in data
    assert all(not weights.external_data for weights in network.graph.initializer)


@pytest.mark.slow
@pytest.mark.parametrize(("format", "name"), [("onnx", "p.onnx"), ("torch-export", "p.pt2")])
def test_nothing_is_written_where_the_answers_differ(
    format: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_text("mine")
    monkeypatch.setattr(writing, "_onnx", lambda *_: onnx.ModelProto())
    monkeypatch.setattr(writing, "_onnx_bytes", lambda *_: exported_small_personal())
    original = {"onnx": writing._onnx_runner, "torch-export": writing._torch_runner}[format]

    def wrong(path: Path) -> object:
        run = original(path)
        return lambda pixels: (run(pixels)[0] + 2 * PROBABILITY_TOLERANCE, run(pixels)[1])

    monkeypatch.setattr(writing, original.__name__, wrong)
    with pytest.raises(FewshotError, match=r"does not answer.*Nothing was written"):
        export_model(small_personal(), tmp_path / name, format=format, force=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
def test_not_a_number_is_no_parity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_a_number(path: Path) -> object:
        return lambda pixels: (np.full((len(pixels), 2), np.nan), np.full(len(pixels), np.nan))

    monkeypatch.setattr(writing, "_onnx", lambda *_: onnx.ModelProto())
    monkeypatch.setattr(writing, "_onnx_bytes", lambda *_: b"")
    monkeypatch.setattr(writing, "_onnx_runner", not_a_number)
    with pytest.raises(FewshotError, match="does not answer"):
        export_model(small_personal(), tmp_path / "p.onnx")


def test_the_probe_images_are_real_and_random_and_always_the_same() -> None:
    images = probe_images(SIZE)
    assert images.shape[1:] == (SIZE, SIZE, 3)
    assert len({image.tobytes() for image in images}) == len(images) >= 16
    assert np.array_equal(images, probe_images(SIZE))


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(UsageError, match=r"needs onnxscript.*pip install 'fewshot-lite\[onnx\]'"):
        export_model(small_personal(), tmp_path / "p.onnx")


def test_bad_outputs(tmp_path: Path) -> None:
    model = small_personal()
    (tmp_path / "there.onnx").write_text("mine")
    for name, format, message in [
        ("p.onnx", "tflite", "--format tflite: not known. Use onnx or torch-export"),
        ("p.onnx", "torch-export", "p.onnx: end it in .pt2 for --format torch-export"),
        ("personal.safetensors", "onnx", "end it in .onnx"),
        ("there.onnx", "onnx", "exists already. Use --force"),
        ("nowhere/p.onnx", "onnx", "there is no folder"),
    ]:
        with pytest.raises(UsageError, match=message):
            export_model(model, tmp_path / name, format=format)
    assert (tmp_path / "there.onnx").read_text() == "mine"


@pytest.mark.slow
def test_a_real_network_from_its_file(tmp_path: Path) -> None:
    folder = draw_classes(tmp_path / "things", {"mug": 3, "keys": 2})
    source = tiny_model("resnet18").adapt(folder).save(tmp_path / "mine.safetensors")
    export_model(source, tmp_path / "mine.onnx")
    exported = ExportedModel.load(tmp_path / "mine.onnx")
    assert exported.source_sha256 == sha256(source)
    assert_answers_alike(PersonalModel.load(source), exported.outputs(NOISE.numpy()))
