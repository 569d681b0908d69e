"""Exports in eight bits: what is quantised, what is compared, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from command_line import Run, is_one_clear_line
from exported import small_personal
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.personal.export import eight_bits, writing
from fewshot_lite.personal.export.eight_bits import Agreement, LabelledPhotos, compare
from fewshot_lite.personal.export.writing import export_model
from fewshot_lite.personal.exported_model import METADATA_KEY, ExportedModel
from photos import SIZE, draw_classes, tiny_model

NAMES = ("keys", "mug")
PHOTOS = LabelledPhotos(
    np.random.default_rng(0).integers(0, 256, (40, 3, SIZE, SIZE), np.uint8),
    np.repeat(np.arange(2), 20),
)


def graph(convolutions: int) -> onnx.GraphProto:
    """A chain of convolutions, each with a Clip behind it, then a sum of the head's."""
    nodes, last = [helper.make_node("Add", ["pixels", "mean"], ["x"], name="before")], "x"
    for number in range(convolutions):
        nodes += [
            helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], name=f"conv {number}"),
            helper.make_node("Clip", [f"c{number}"], [f"r{number}"], name=f"clip {number}"),
        ]
        last = f"r{number}"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["features"], name="pool"))
    nodes.append(helper.make_node("Add", ["features", "bias"], ["logits"], name="head"))
    return helper.make_graph(nodes, "network", [], [])


def test_what_follows_the_first_eighth_of_convolutions_is_quantised_and_the_head_is_not() -> None:
    kept = {f"{kind} {number}" for kind in ("conv", "clip") for number in range(2, 16)}
    assert set(eight_bits._to_quantise(graph(16))) == kept


def test_a_network_of_few_convolutions_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--int8.*has 3 convolutions.*without"):
        eight_bits._to_quantise(graph(3))


def test_the_same_features_change_nothing() -> None:
    model = small_personal()
    found = compare(model, PHOTOS, model.features_of(PHOTOS.pixels))
    assert found.photos == 40
    assert found.changed == 0
    assert found.error == 0
    assert found.accuracy == found.accuracy_in_eight_bits


def test_photos_are_named_by_the_others() -> None:
    """Noise has nothing that tells its classes apart, but for a head that has seen the photos."""
    model = small_personal()
    found = compare(model, PHOTOS, model.features_of(PHOTOS.pixels))
    assert 0.2 < found.accuracy < 0.8


def test_other_answers_are_refused() -> None:
    model = small_personal()
    own = model.features_of(PHOTOS.pixels)
    with pytest.raises(FewshotError, match=r"--int8: .* of 40 photos .*Nothing was written"):
        compare(model, PHOTOS, np.ascontiguousarray(own[::-1]))


def test_a_few_answers_more_are_chance() -> None:
    """With the features of others a photo gets another answer, and a single one is not refused."""
    model = small_personal()
    own = model.features_of(PHOTOS.pixels)
    changed = []
    for other in range(1, 40, 4):
        one = own.copy()
        one[0] = own[other]
        changed.append(compare(model, PHOTOS, one).changed)
    assert set(changed) == {0, 1}


@pytest.mark.parametrize("shots", [{"mug": 1, "keys": 1}, {"mug": 0, "keys": 1}])
def test_a_folder_in_which_nothing_can_be_left_out(shots: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--int8 .*things.*no class of two photos"):
        LabelledPhotos.read(draw_classes(tmp_path / "things", shots), SIZE, NAMES)


def test_photos_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    folder = draw_classes(tmp_path / "things", {"keys": 2, "mug": 3})
    (folder / "keys" / "broken.jpg").write_bytes(b"no photo")
    found = LabelledPhotos.read(folder, SIZE, NAMES)
    assert found.labels.tolist() == [0, 0, 1, 1, 1]
    assert found.pixels.shape == (5, 3, SIZE, SIZE)
    assert found.sample().shape == (5, SIZE, SIZE, 3)


def test_an_archive_is_read_as_its_folder_is(tmp_path: Path) -> None:
    folder = draw_classes(tmp_path / "things", {"keys": 2, "mug": 3})
    archive = Path(shutil.make_archive(str(tmp_path / "things"), "zip", folder))
    found, expected = (LabelledPhotos.read(path, SIZE, NAMES) for path in (archive, folder))
    assert np.array_equal(found.pixels, expected.pixels)
    assert np.array_equal(found.labels, expected.labels)


def test_a_folder_of_none_of_the_classes_of_the_model_is_refused(tmp_path: Path) -> None:
    folder = draw_classes(tmp_path / "flat", {"2025": 2, "2026": 2})
    message = r"int8 .*flat: none of its folders \('2025', '2026'\) is .* model \('keys', 'mug'\)"
    with pytest.raises(UsageError, match=message):
        LabelledPhotos.read(folder, SIZE, NAMES)


def test_classes_of_which_the_folder_has_no_photos_are_known(tmp_path: Path) -> None:
    every = draw_classes(tmp_path / "every", {"keys": 2, "mug": 2, "pen": 2})
    assert LabelledPhotos.read(every, SIZE, NAMES).missing == ()
    some = draw_classes(tmp_path / "some", {"mug": 2, "pen": 2})
    assert LabelledPhotos.read(some, SIZE, NAMES).missing == ("keys",)
    (some / "keys").mkdir()
    (some / "keys" / "broken.jpg").write_bytes(b"no photo")
    assert LabelledPhotos.read(some, SIZE, NAMES).missing == ("keys",)
    for photo in (some / "mug").iterdir():
        photo.write_bytes(b"no photo")
    with pytest.raises(UsageError, match=r"int8 .*some: none of its folders .* that can be read"):
        LabelledPhotos.read(some, SIZE, NAMES)


def test_folders_of_classes_with_other_names_are_theirs(tmp_path: Path) -> None:
    folder = draw_classes(tmp_path / "things", {"a_b": 2, "mug": 2})
    assert LabelledPhotos.read(folder, SIZE, ("a/b", "mug", "cup")).missing == ("cup",)


@pytest.mark.slow
def test_the_command_names_classes_without_photos(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tiny_model().adapt(draw_classes(tmp_path / "every", {"keys": 3, "mug": 3}))
    model.save(tmp_path / "m.safetensors")
    shots = dict.fromkeys((*model.class_names[1:], "other"), 3)
    draw_classes(tmp_path / "some", shots)
    agreement = Agreement(1, 0, 1.0, 1.0, 0.0)
    monkeypatch.setattr(
        writing, "_in_eight_bits", lambda network, model, photos: (network, agreement)
    )
    outcome = run("export", "m.safetensors", "--int8", "some", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["missing"] == [model.class_names[0]]
    assert f"--int8 some: no photos of {model.class_names[0]!r}, so" in outcome.err
    (tmp_path / "m.onnx").unlink()
    draw_classes(tmp_path / "none", {"other": 3, "more": 3})
    outcome = run("export", "m.safetensors", "--int8", "none")
    is_one_clear_line(outcome, 2, "none of its folders")
    assert not (tmp_path / "m.onnx").exists()


def test_of_many_photos_some_of_each_class_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eight_bits, "_MOST_READ", 6)
    found = LabelledPhotos.read(
        draw_classes(tmp_path / "things", {"keys": 8, "mug": 8}), SIZE, NAMES
    )
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.slow
def test_the_file_is_small_answers_alike_and_says_what_changed(tmp_path: Path) -> None:
    folder = draw_classes(tmp_path / "things", {"mug": 6, "keys": 6})
    personal = tiny_model("resnet18").adapt(folder)
    plain = export_model(personal, tmp_path / "plain.onnx")
    found = export_model(personal, tmp_path / "int8.onnx", int8=folder)
    assert found.bytes < 0.4 * plain.bytes
    assert found.int8 is not None
    assert found.int8.photos == 12
    assert 0 < found.int8.error < 0.3
    network = onnx.load(tmp_path / "int8.onnx")
    (entry,) = network.metadata_props
    assert entry.key == METADATA_KEY
    assert json.loads(entry.value)["int8"]["changed"] == found.int8.changed
    assert [value.name for value in network.graph.output] == ["probabilities", "strangeness"]
    whole = [n for n in network.graph.node if n.op_type == "Conv" and "Dequant" not in n.input[1]]
    assert 0 < len(whole) <= 20
    pixels = LabelledPhotos.read(folder, SIZE, NAMES).sample()
    files = tmp_path / "plain.onnx", tmp_path / "int8.onnx"
    answers = [ExportedModel.load(file).outputs(pixels)[0] for file in files]
    assert (answers[0].argmax(1) == answers[1].argmax(1)).mean() > 0.8
    assert not np.array_equal(*answers)


@pytest.mark.slow
def test_nothing_is_written_where_eight_bits_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = draw_classes(tmp_path / "things", dict.fromkeys(small_personal().class_names, 3))
    with pytest.raises(UsageError, match="has 1 convolutions"):
        export_model(small_personal(), tmp_path / "p.onnx", int8=folder)

    def failing(*_: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(writing, "quantised", failing)
    with pytest.raises(FewshotError, match=r"cannot be quantised \(.*no such operator"):
        export_model(small_personal(), tmp_path / "p.onnx", int8=folder)
    assert not (tmp_path / "p.onnx").exists()
