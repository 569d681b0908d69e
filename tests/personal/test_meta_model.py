"""A base adapts to a folder or to images; what cannot be adapted to is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import fewshot_lite
from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from photos import SIZE, contents, draw_classes, tiny_model

SHOTS = {"mug": 3, "keys": 2, "remote control": 1}


@pytest.fixture(scope="module")
def model() -> MetaModel:
    return tiny_model()


@pytest.fixture(scope="module")
def saved(model: MetaModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "tiny.safetensors"
    model.save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return draw_classes(tmp_path / "things", SHOTS)


def answers(personal: PersonalModel, folder: Path) -> list[Any]:
    return [a.labels for a in personal.classify(sorted(folder.rglob("*.png")))]


def test_adapting_to_a_folder_counts_what_it_used(model: MetaModel, folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    personal = model.adapt(folder, on_done=lambda done, total: calls.append((done, total)))
    assert personal.class_names == ("keys", "mug", "remote control")
    assert personal.adaptation is not None
    assert personal.adaptation.class_names == personal.class_names
    assert personal.adaptation.used == (2, 3, 1)
    assert personal.adaptation.skipped_per_class == (0, 0, 0)
    assert personal.adaptation.skipped == ()
    assert personal.adaptation.seconds > 0
    assert calls == [(number, 6) for number in range(1, 7)]
    assert personal.provenance["learner"] == "simple-cnaps"


def test_files_that_cannot_be_read_are_skipped_with_reasons(model: MetaModel, folder: Path) -> None:
    (folder / "notes.txt").write_text("not in a class")
    (folder / "keys" / "list.txt").write_text("text")
    (folder / "keys" / "empty.jpg").write_bytes(b"")
    (folder / "mug" / "2024" / "keys").mkdir(parents=True)  # a folder in a class, named as another
    (folder / "mug" / "2024" / "keys" / "text.png").write_text("text")
    (folder / "mug" / "00.png").write_bytes((folder / "mug" / "01.png").read_bytes()[:60])
    (folder / "mug" / ".DS_Store").write_bytes(b"\0")
    adaptation = model.adapt(folder).adaptation
    assert adaptation is not None
    assert {str(s.path.relative_to(folder)): s.reason for s in adaptation.skipped} == {
        "keys/empty.jpg": "empty file (0 bytes)",
        "keys/list.txt": "not a photo",
        "mug/00.png": adaptation.skipped[2].reason,
        "mug/2024/keys/text.png": "not an image, or badly damaged",
        "notes.txt": "not inside a class folder",
    }
    assert [s.path for s in adaptation.skipped] == sorted(s.path for s in adaptation.skipped)
    assert adaptation.used == (2, 2, 1)
    assert adaptation.skipped_per_class == (2, 2, 0)


def test_what_is_skipped_changes_nothing(model: MetaModel, folder: Path) -> None:
    before = answers(model.adapt(folder), folder)
    (folder / "keys" / "aaa.jpg").write_text("text")
    (folder / "zzz").write_text("text")
    (folder / "mug" / "empty.png").write_bytes(b"")
    after = model.adapt(folder)
    (folder / "mug" / "empty.png").unlink()
    assert answers(after, folder) == before


def test_images_with_labels_are_a_folder_without_files(model: MetaModel, folder: Path) -> None:
    from fewshot_lite.data.store import decode

    paths = sorted(folder.rglob("*.png"))
    images, _ = decode(paths, SIZE)
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(0)).tolist()
    labels = [path.parent.name for path in paths]
    expected = model.adapt(folder).probabilities(images)
    for given in (images, images.float() / 255, images.double() / 255):
        personal = model.adapt(given[order], [labels[i] for i in order])
        torch.testing.assert_close(personal.probabilities(images), expected, rtol=0, atol=1e-5)
        assert personal.adaptation is not None
        assert personal.adaptation.used == (2, 3, 1)


def test_labels_may_be_numbers(model: MetaModel) -> None:
    personal = model.adapt(torch.rand(4, 3, SIZE, SIZE), torch.tensor([7, 3, 7, 3]))
    assert personal.class_names == ("3", "7")


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((2, 3, SIZE, SIZE), None, "labels: missing"),
        ((2, 3, SIZE, SIZE), ["a"], "labels: 1 class names for 2 photos"),
        ((2, 3, SIZE, SIZE + 1), ["a"], "labels: 1 class names for 2 photos"),
        ((3, SIZE, SIZE), ["a", "b", "c"], "photos: one photo"),
        ((2, SIZE, SIZE, 3), ["a", "b"], r"photos\[0\]: a tensor of shape .*permute\(2, 0, 1\)"),
        ((2, 3, SIZE, SIZE), ["a", "a"], "One class only"),
        ((0, 3, SIZE, SIZE), [], "One class only"),
        ((2, 3, SIZE, SIZE), ["Mug", "mug"], "differ only in case"),
        ((2, 3, SIZE, SIZE), ["mug", None], "labels: one is missing"),
        ((2, 3, SIZE, SIZE), [1.0, float("nan")], "labels: one is missing"),
    ],
)
def test_images_or_labels_that_do_not_fit(
    model: MetaModel, shape: tuple[int, ...], labels: list[Any] | None, message: str
) -> None:
    with pytest.raises(FewshotError, match=message):
        model.adapt(torch.rand(shape), labels)


@pytest.mark.parametrize("workers", [0, -1])
def test_threads_are_one_at_least(model: MetaModel, folder: Path, workers: int) -> None:
    with pytest.raises(UsageError, match=rf"workers {workers}: must be at least 1"):
        model.adapt(folder, workers=workers)


@pytest.mark.parametrize("factor", [255.0, -3.0, float("nan")])
def test_images_of_another_range_are_refused(model: MetaModel, factor: float) -> None:
    with pytest.raises(UsageError, match=r"uint8 in 0\.\.255, or floats in \[0, 1\]"):
        model.adapt(factor * torch.rand(2, 3, SIZE, SIZE), ["a", "b"])


def test_a_folder_has_its_own_labels(model: MetaModel, folder: Path) -> None:
    with pytest.raises(UsageError, match="labels: for photos only"):
        model.adapt(folder, ["a", "b"])


def test_folders_that_cannot_be_adapted_to(model: MetaModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    draw_classes(tmp_path / "loose", {".": 2})
    draw_classes(tmp_path / "one", {"mug": 2})
    draw_classes(tmp_path / "hollow", {"mug": 2, "keys": 0})
    draw_classes(tmp_path / "twins", {"Mug": 1, "mug": 1})
    draw_classes(tmp_path / "unreadable", {"mug": 1, "keys": 1})
    (tmp_path / "unreadable" / "keys" / "00.png").write_text("text")
    before = contents(tmp_path)
    for name, error, message in [
        ("missing", UsageError, "no such folder"),
        ("file", UsageError, "a file, not a folder"),
        ("empty", FewshotError, "one folder per class"),
        (
            "loose",
            FewshotError,
            r"photos lie directly in the folder.*one folder per class.*00\.png",
        ),
        ("one", FewshotError, r"one class only \('mug'\)"),
        ("hollow", FewshotError, r"keys: no photo in it can be read\. Put photos in"),
        ("twins", FewshotError, r"'Mug' and 'mug' differ only in case"),
        ("unreadable", FewshotError, r"keys: no photo .* \(00\.png: not an image"),
    ]:
        with pytest.raises(error, match=message) as caught:
            model.adapt(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("size", [(1, 1), (20_000, 100), (100, 4000)])
def test_photos_of_odd_sizes_are_adapted_to(
    model: MetaModel, folder: Path, size: tuple[int, int]
) -> None:
    Image.new("RGB", size, "red").save(folder / "keys" / "odd.png")
    adaptation = model.adapt(folder).adaptation
    assert adaptation is not None
    assert adaptation.used == (3, 3, 1)


def test_a_saved_base_adapts_as_the_one_in_memory(
    model: MetaModel, saved: Path, folder: Path
) -> None:
    loaded = MetaModel.load(saved)
    assert answers(loaded.adapt(folder), folder) == answers(model.adapt(folder), folder)
    assert loaded.source == {"name": "tiny", "sha256": checkpoint.sha256(saved)}
    assert not any(p.requires_grad for p in loaded.learner.parameters())
    assert loaded.adapt(folder).provenance["base"] == loaded.source


def test_adapting_leaves_the_base_as_it_was(model: MetaModel, folder: Path) -> None:
    before = {name: value.clone() for name, value in model.learner.state_dict().items()}
    state = torch.get_rng_state()
    model.adapt(folder)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.learner.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_half_precision_halves_the_file_and_keeps_the_answers(
    model: MetaModel, saved: Path, folder: Path, tmp_path: Path
) -> None:
    model.save(tmp_path / "half.safetensors", half=True)
    half = MetaModel.load(tmp_path / "half.safetensors")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * saved.stat().st_size
    pairs = zip(
        answers(half.adapt(folder), folder), answers(model.adapt(folder), folder), strict=True
    )
    for one, other in pairs:
        assert dict(one) == pytest.approx(dict(other), abs=0.02)


def test_load_opens_models_of_any_kind(saved: Path, model: MetaModel, tmp_path: Path) -> None:
    assert fewshot_lite.load(saved).image_size == SIZE
    base = fewshot_lite.load(str(saved))
    assert isinstance(base, MetaModel)
    assert repr(base) == "MetaModel(simple-cnaps, shufflenet_v2_x0_5, 32 px)"
    adapted = model.adapt(torch.rand(8, 3, SIZE, SIZE), [f"c{k}" for k in range(8)])
    adapted.save(tmp_path / "mine.safetensors")
    personal = fewshot_lite.load(tmp_path / "mine.safetensors")
    assert isinstance(personal, PersonalModel)
    assert repr(personal) == "PersonalModel(8 classes: c0, c1, c2, c3, c4, …)"
    for missing in ("nowhere.safetensors", "nowhere.onnx"):
        with pytest.raises(UsageError, match="no such file"):
            fewshot_lite.load(missing)


def change(path: Path, target: Path, **meta: Any) -> Path:
    """The same file with other entries in its description; None takes one out."""
    file = checkpoint.load(path, "meta")
    kept = {k: v for k, v in (file.meta | meta).items() if v is not None}
    for key in ("format", "kind"):
        kept.pop(key)
    checkpoint.save(target, "meta", file.tensors, kept)
    return target


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"backbone": "resnet18"}, "backbone"),
        ({"backbone": "resnet9000"}, "no such network"),
        ({"backbone": None}, "'backbone' is missing"),
        ({"image_size": "large"}, "damaged"),
        ({"image_size": None}, "'image_size' is missing"),
        ({"learner": "maml++"}, "unknown"),
        ({"learner": "protonets"}, "unexpected keyword"),
        ({"hyperparameters": {"embedding_dim": 16, "encoder_size": 16}}, "size mismatch"),
        ({"hyperparameters": [1]}, "damaged"),
        ({"record": [1]}, "damaged"),
        ({"record": "x"}, "damaged"),
        ({"record": {"refine_pattern": 3}}, "damaged"),
        ({"hyperparameters": None}, "'hyperparameters' is missing"),
    ],
)
def test_a_description_that_does_not_fit_is_one_clear_line(
    saved: Path, tmp_path: Path, meta: dict[str, Any], message: str
) -> None:
    path = change(saved, tmp_path / "changed.safetensors", **meta)
    with pytest.raises(FewshotError, match=message) as caught:
        MetaModel.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_missing_tensors_and_wrong_shapes_are_named(saved: Path, tmp_path: Path) -> None:
    file = checkpoint.load(saved, "meta")
    meta = {k: v for k, v in file.meta.items() if k not in ("format", "kind")}
    for tensors, message in [
        ({k: v for k, v in file.tensors.items() if k != "head.log_beta"}, "head.log_beta"),
        (file.tensors | {"head.log_beta": torch.zeros(2)}, "head.log_beta"),
        (file.tensors | {"head.log_beta": torch.tensor(800.0)}, "log_beta of the head is"),
        (file.tensors | {"head.log_beta": torch.tensor(-1e30)}, "log_beta of the head is"),
        (file.tensors | {"head.log_temperature": torch.tensor(torch.nan)}, "of the head is not"),
        (file.tensors | {"extra": torch.zeros(2)}, "extra"),
    ]:
        checkpoint.save(tmp_path / "changed.safetensors", "meta", tensors, meta)
        with pytest.raises(FewshotError, match=message):
            MetaModel.load(tmp_path / "changed.safetensors")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict as torchvision publishes it."""
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    network = tiny_model().learner.backbone.network
    torch.save({**network.state_dict(), "fc.weight": torch.zeros(7, 1024)}, path)
    return path


def test_a_network_with_weights_of_ones_own_adapts(
    foreign: Path, folder: Path, tmp_path: Path
) -> None:
    base = MetaModel.load("shufflenet_v2_x0_5", weights=foreign)
    assert base.image_size == 224
    assert base.source == {
        "name": "shufflenet_v2_x0_5",
        "weights": "weights.pth",
        "sha256": checkpoint.sha256(foreign),
    }
    personal = base.adapt(folder)
    assert personal.provenance["learner"] == "frozen"
    assert personal.provenance["head"]["used"] == "mean"
    expected = answers(personal, folder)
    personal.save(tmp_path / "personal.safetensors")
    assert answers(PersonalModel.load(tmp_path / "personal.safetensors"), folder) == expected
    base.save(tmp_path / "base.safetensors")
    assert answers(MetaModel.load(tmp_path / "base.safetensors").adapt(folder), folder) == expected


def test_other_means_and_deviations_travel_with_the_model(
    foreign: Path, folder: Path, tmp_path: Path
) -> None:
    base = MetaModel.load("shufflenet_v2_x0_5", weights=foreign)
    base.learner.backbone.standardise([0.5, 0.4, 0.3], [0.5, 0.25, 0.125])
    personal = base.adapt(folder)
    personal.save(tmp_path / "personal.safetensors")
    base.save(tmp_path / "base.safetensors")
    loaded = PersonalModel.load(tmp_path / "personal.safetensors")
    assert loaded.backbone.std.flatten().tolist() == [0.5, 0.25, 0.125]
    assert answers(loaded, folder) == answers(personal, folder)
    again = MetaModel.load(tmp_path / "base.safetensors").learner.backbone
    assert again.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])


@pytest.mark.parametrize("head", ["mahalanobis", "cosine", "euclidean", "ridge", "auto"])
@pytest.mark.slow
def test_the_head_asked_for_is_in_the_file(
    model: MetaModel, folder: Path, tmp_path: Path, head: Any
) -> None:
    personal = model.adapt(folder, head=head)
    record = personal.provenance["head"]
    assert record["asked"] == head
    assert ("left_out_accuracy" in record) == (head == "auto")
    personal.save(tmp_path / "personal.safetensors")
    loaded = PersonalModel.load(tmp_path / "personal.safetensors")
    assert loaded.provenance["head"] == record
    assert answers(loaded, folder) == answers(personal, folder)
    if head != "auto":
        assert answers(personal, folder) != answers(model.adapt(folder), folder)


def test_no_class_can_be_called_what_strangers_are(tmp_path: Path) -> None:
    folder = draw_classes(tmp_path / "things", {"mug": 2, "Unknown": 2})
    with pytest.raises(UsageError, match="none of the classes"):
        tiny_model().adapt(folder)
    with pytest.raises(UsageError, match="none of the classes"):
        tiny_model().adapt(torch.rand(2, 3, SIZE, SIZE), ["mug", "unknown"])
