"""A model run by onnxruntime answers as the PersonalModel that it was exported from."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import onnx
import pytest

from exported import exported_small_personal, small_personal
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.images.folders import Skipped
from fewshot_lite.networks.sessions import Bounds
from fewshot_lite.personal.exported_model import ExportedModel
from photos import draw_classes

pytestmark = pytest.mark.slow  # exporting takes seconds


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "small.onnx"
    file.write_bytes(exported_small_personal())
    return file


@pytest.fixture(scope="module")
def exported(file: Path) -> ExportedModel:
    return ExportedModel.load(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = draw_classes(tmp_path_factory.mktemp("things"), {"a": 20, "b": 5})
    (folder / "a" / "99.png").write_text("no photo")
    return folder


@pytest.mark.parametrize("reject", [0.05, 0.5, 0.999, 0.0, None])
def test_same_predictions(exported: ExportedModel, folder: Path, reject: float | None) -> None:
    personal = small_personal()
    photos = sorted(folder.rglob("*.png"))
    for mine, theirs in zip(
        exported.classify(photos, top=2, reject=reject),
        personal.classify(photos, top=2, reject=reject),
        strict=True,
    ):
        assert (mine.path, mine.problem, mine.unknown) == (
            theirs.path,
            theirs.problem,
            theirs.unknown,
        )
        assert [name for name, _ in mine.labels] == [name for name, _ in theirs.labels]
        assert [p for _, p in mine.labels] == pytest.approx([p for _, p in theirs.labels], abs=1e-4)
        if theirs.strangeness is not None:
            assert mine.strangeness == pytest.approx(theirs.strangeness, rel=1e-4)


def test_both_kinds_of_answers_occur(exported: ExportedModel, folder: Path) -> None:
    answers = exported.classify(sorted(folder.rglob("*.png")), reject=0.999)
    assert {answer.unknown for answer in answers if not answer.problem} == {True}
    named = exported.classify(folder / "a" / "00.png", top=1, reject=None)
    assert (len(named.labels), named.unknown) == (1, False)


def test_batches_do_not_change_answers(exported: ExportedModel, folder: Path) -> None:
    photos: list[Path | Skipped] = [*sorted(folder.rglob("*.png")), Skipped(folder, "a folder")]
    whole, parts = (list(exported.classify_stream(photos, batch=batch)) for batch in (64, 3))
    assert [(p.path, p.problem, p.label) for p in whole] == [
        (p.path, p.problem, p.label) for p in parts
    ]
    assert whole[-1].problem == "a folder"


def test_thresholds(exported: ExportedModel) -> None:
    personal = small_personal()
    for reject in (0.001, 0.05, 0.1, 0.5, 0.999):
        assert exported.threshold(reject) == pytest.approx(personal.threshold(reject), rel=1e-5)
    assert exported.threshold(0) == math.inf
    low, between, high = (exported.threshold(reject) for reject in (0.101, 0.1005, 0.1))
    assert between == pytest.approx((low + high) / 2)
    assert exported.threshold(0.9999) == exported.threshold(0.999)
    for reject in (-0.1, 1.0, math.nan):
        with pytest.raises(UsageError, match=r"--reject .*from 0 to below 1"):
            exported.threshold(reject)


def test_bad_files(file: Path, tmp_path: Path) -> None:
    network = onnx.load(file)
    about = json.loads(network.metadata_props[0].value)

    def changed(name: str, **changes: object) -> Path:
        network.metadata_props[0].value = json.dumps(about | changes)
        onnx.save(network, tmp_path / name)
        return tmp_path / name

    (tmp_path / "cut.onnx").write_bytes(file.read_bytes()[:2000])
    (tmp_path / "empty.onnx").write_bytes(b"")
    network.metadata_props[0].key = "other"
    onnx.save(network, tmp_path / "foreign.onnx")
    network.metadata_props[0].key = "fewshot_lite"
    for path, message in [
        (tmp_path / "cut.onnx", "damaged, or not an ONNX file"),
        (tmp_path / "empty.onnx", "damaged, or not an ONNX file"),
        (tmp_path / "foreign.onnx", "not one of fewshot-lite's"),
        (changed("names.onnx", class_names=["one"]), "description is damaged"),
        (changed("size.onnx", image_size="32"), "description is damaged"),
        (changed("thresholds.onnx", thresholds=[1.0]), "description is damaged"),
        (changed("source.onnx", source=None), "description is damaged"),
        (tmp_path / "gone.onnx", "no such file"),
        (tmp_path, "a folder"),
    ]:
        with pytest.raises(FewshotError, match=message) as error:
            ExportedModel.load(path)
        assert str(path) in str(error.value)


def test_a_bit_that_flips_is_noticed(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    flipped = tmp_path / "flipped.onnx"
    for position in range(7, len(data), len(data) // 40):
        damaged = bytearray(data)
        damaged[position] ^= 1
        flipped.write_bytes(damaged)
        with pytest.raises(FewshotError, match=r"damaged|not an ONNX file|not one of"):
            ExportedModel.load(flipped)


def test_an_export_of_before_there_were_checksums_is_read(file: Path, tmp_path: Path) -> None:
    model = onnx.load(file)
    [entry] = [item for item in model.metadata_props if item.key == "fewshot_lite"]
    about = json.loads(entry.value)
    del about["checksum"]
    entry.value = json.dumps(about)
    onnx.save(model, tmp_path / "old.onnx")
    assert ExportedModel.load(tmp_path / "old.onnx").about == about


def test_onnxruntime_prints_nothing_of_its_own(
    file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of a name that is no text it would print that it falls back from the CPU to the CPU."""
    damaged = tmp_path / "damaged.onnx"
    data = file.read_bytes()
    assert b"pixels" in data
    damaged.write_bytes(data.replace(b"pixels", b"pixel\xe4", 1))
    with pytest.raises(FewshotError, match="damaged"):
        ExportedModel.load(damaged)
    assert capfd.readouterr() == ("", "")


def with_program(file: Path, path: Path, kind: str) -> Path:
    """The export with something more in its graph, and a checksum that it need not have."""
    model = onnx.load(file)
    scalar, number = partial(onnx.helper.make_tensor, dims=[]), onnx.TensorProto
    if kind == "memory":  # 16 GB of zeros
        shape = onnx.helper.make_tensor("shape", number.INT64, [2], [2**17, 2**15])
        model.graph.initializer.append(shape)
        nodes = [
            onnx.helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
            onnx.helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        ]
    else:  # a loop without end
        values = {"i": number.INT64, "go": number.BOOL, "x": number.FLOAT}
        inputs = [onnx.helper.make_tensor_value_info(k, v, []) for k, v in values.items()]
        outputs = [
            onnx.helper.make_tensor_value_info("on", number.BOOL, []),
            onnx.helper.make_tensor_value_info("y", number.FLOAT, []),
        ]
        steps = [
            onnx.helper.make_node("Identity", ["go"], ["on"]),
            onnx.helper.make_node("Neg", ["x"], ["y"]),
        ]
        body = onnx.helper.make_graph(steps, "body", inputs, outputs)
        model.graph.initializer.extend(
            [
                scalar("times", number.INT64, vals=[2**62]),
                scalar("yes", number.BOOL, vals=[True]),
                scalar("start", number.FLOAT, vals=[1.0]),
            ]
        )
        nodes = [onnx.helper.make_node("Loop", ["times", "yes", "start"], ["end"], body=body)]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    about = json.loads(model.metadata_props[0].value)
    del about["checksum"]
    model.metadata_props[0].value = json.dumps(about)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("kind", ["memory", "time"])
def test_a_program_in_an_export_costs_no_more_than_a_network(
    file: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(Bounds, "of", lambda data: Bounds(1_500_000_000, 1.0))
    crafted = ExportedModel.load(with_program(file, tmp_path / "crafted.onnx", kind))
    with pytest.raises(FewshotError, match="takes more memory or time than it should"):
        crafted.classify(folder / "a" / "00.png")
    assert ExportedModel.load(file).classify(folder / "a" / "00.png").problem is None


def test_a_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as stream:
        stream.truncate(30_000_000_000)  # takes no room on the disk
    with pytest.raises(FewshotError, match="larger than 2 GB"):
        ExportedModel.load(path)
