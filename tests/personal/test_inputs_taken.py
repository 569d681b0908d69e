"""Inputs x entry points: every form of a photo is taken wherever photos are, with one answer.

The shell takes what lies on a disk; the rest of the table is Python's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fewshot_lite
from command_line import Run
from exported import exported_small_personal
from fewshot_lite import FewShotClassifier
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.images.folders import some_folders
from fewshot_lite.images.regions import Region
from fewshot_lite.personal.bulk.sorting import Sorter, class_of_folder
from fewshot_lite.personal.exported_model import ExportedModel
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.suggesting import copy_for_sorting
from photos import SIZE, contents, draw_classes, draw_photo, tiny_model


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def image(path: Path) -> Image.Image:
    return Image.fromarray(pixels(path))


#: The rows of the table: what a path is turned into.
FORMS: dict[str, Callable[[Path], Any]] = {
    "text": str,
    "path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "pillow": image,
    "array": pixels,
    "array with alpha": lambda path: np.asarray(image(path).convert("RGBA")),
    "floats": lambda path: pixels(path) / 255,
    "16 bits": lambda path: pixels(path).astype(np.uint16) * 257,
    "tensor": lambda path: torch.from_numpy(pixels(path).transpose(2, 0, 1).copy()),
    "tensor of floats": lambda path: torch.from_numpy(pixels(path).transpose(2, 0, 1) / 255),
}


@pytest.fixture(scope="module")
def base() -> MetaModel:
    return tiny_model()


@pytest.fixture(scope="module")
def base_file(base: MetaModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "tiny.safetensors"
    base.save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of different sizes."""
    folder = draw_classes(tmp_path_factory.mktemp("inputs") / "things", {"keys": 2, "mug": 3})
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        image(path).resize((SIZE + 3 * number, SIZE + number)).save(path)
    return folder


@pytest.fixture(scope="module")
def photos(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


@pytest.fixture(scope="module")
def personal(base: MetaModel, folder: Path) -> PersonalModel:
    return base.adapt(folder)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("exported") / "small.onnx"
    path.write_bytes(exported_small_personal())
    return ExportedModel.load(path)


@pytest.mark.parametrize("form", FORMS)
def test_adapt(base: MetaModel, personal: PersonalModel, photos: list[Path], form: str) -> None:
    labels = [path.parent.name for path in photos]
    adapted = base.adapt([FORMS[form](path) for path in photos], labels)
    torch.testing.assert_close(adapted.features, personal.features)
    assert adapted.class_names == personal.class_names
    assert adapted.thumbnails == personal.thumbnails


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_estimator(
    base_file: Path, personal: PersonalModel, photos: list[Path], form: str
) -> None:
    labels = [path.parent.name for path in photos]
    given = [FORMS[form](path) for path in photos]
    fitted = FewShotClassifier(base_file).fit(given, labels)
    torch.testing.assert_close(fitted.model_.features, personal.features)
    named = [answer.label for answer in personal.classify(photos, reject=None)]
    assert fitted.predict(given).tolist() == named


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("engine", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
def test_classify(
    request: pytest.FixtureRequest, photos: list[Path], form: str, engine: str
) -> None:
    model = request.getfixturevalue({"torch": "personal", "onnx": "exported"}[engine])
    expected = [answer.labels for answer in model.classify(photos)]
    found = model.classify([FORMS[form](path) for path in photos])
    assert [answer.labels for answer in found] == expected
    known = form in ("text", "path")
    assert [answer.path for answer in found] == (photos if known else [None] * len(photos))
    alone = model.classify(FORMS[form](photos[0]))
    assert dict(alone.labels) == pytest.approx(dict(expected[0]), abs=1e-5)


@pytest.mark.parametrize("form", ["text", "path"])
def test_the_shell(
    run: Run, personal: PersonalModel, photos: list[Path], tmp_path: Path, form: str
) -> None:
    personal.save(tmp_path / "mine.safetensors")
    words = [FORMS[form](path) for path in photos]
    outcome = run("classify", *words, "--json", "--model", tmp_path / "mine.safetensors")
    expected = [answer.label for answer in personal.classify(photos)]
    assert [answer["label"] for answer in outcome.json] == expected


def test_a_batch_in_one_array_is_several_photos(personal: PersonalModel) -> None:
    batch = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
    found = personal.classify(batch)
    assert found == personal.classify(list(batch))
    assert found == personal.classify(torch.from_numpy(batch).permute(0, 3, 1, 2))


def test_forms_and_sizes_may_be_mixed_and_folders_stand_for_their_photos(
    personal: PersonalModel, photos: list[Path], folder: Path
) -> None:
    forms = list(FORMS.values())
    mixed = [forms[number % len(forms)](path) for number, path in enumerate(photos)]
    labels = [answer.label for answer in personal.classify(photos)]
    assert [answer.label for answer in personal.classify(iter(mixed))] == labels
    assert personal.classify(folder) == personal.classify(photos)
    assert personal.classify([str(folder), photos[0]])[-1].path == photos[0]


def test_what_cannot_be_read_is_named(personal: PersonalModel, photos: list[Path]) -> None:
    with pytest.raises(UsageError, match=r"photos: nowhere\.jpg: no such file"):
        personal.classify("nowhere.jpg")
    missing, broken, good = personal.classify([Path("nowhere.jpg"), b"text", photos[0]])
    assert (missing.problem, broken.problem) == ("no such file", "not an image, or badly damaged")
    assert good.label is not None
    with pytest.raises(UsageError, match=r"photos\[1\]: int is no photo"):
        personal.classify([photos[0], 3])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="photos: int is no photo"):
        personal.classify(3)  # type: ignore[call-overload]


def test_adapting_to_photos_names_them_by_class_and_says_what_was_left_out(
    base: MetaModel, photos: list[Path]
) -> None:
    personal = base.adapt([*photos, photos[0], b"text"], ["a", "a", "b", "b", "b", "a", "b"])
    assert personal.photos[:3] == ("a/00.png", "a/01.png", "b/00.png")
    assert personal.photos[5] == "a/00.png (2)"
    adaptation = personal.adaptation
    assert adaptation is not None
    assert adaptation.used == (3, 3)
    (skipped,) = adaptation.skipped
    assert str(skipped.path) == "photos[6]"
    kinds = {finding.kind: finding for finding in adaptation.findings}
    assert kinds["skipped"].classes == ("b",)
    assert kinds["same-file"].paths == (photos[0], photos[0])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b"], "labels: 2 class names for 5 photos"),
        ("abcde", "labels: 'abcde' is one"),
        (["a"] * 5, r"photos: one class only \('a'\).*Add photos of something else"),
        (["unknown", "a", "a", "a", "a"], "calls photos of none of the classes"),
        (["", "a", "a", "a", "a"], "a class without a name"),
        (["Mug", "mug", "a", "a", "a"], "differ only in case"),
        (None, "labels: missing"),
    ],
)
def test_labels_that_do_not_fit(
    base: MetaModel, photos: list[Path], labels: Any, message: str
) -> None:
    with pytest.raises(FewshotError, match=message):
        base.adapt(photos, labels)


def test_photos_that_cannot_be_adapted_to(base: MetaModel, photos: list[Path]) -> None:
    with pytest.raises(FewshotError, match=r"no photo in it can be read \(photos\[1\]: not an im"):
        base.adapt([photos[0], b"text"], ["a", "b"])
    with pytest.raises(FewshotError, match="photos: none were given"):
        base.adapt([], [])


#: Calls with what is no path or no personal model, and the argument that the message names.
MISTAKES: dict[str, tuple[Callable[[PersonalModel], object], str]] = {
    "load": (lambda _: fewshot_lite.load(None), "base: NoneType is no path"),  # type: ignore[call-overload]
    "load of a model": (lambda m: fewshot_lite.load(m), "base: PersonalModel is no path"),  # type: ignore[call-overload]
    "open_base": (lambda _: fewshot_lite.open_base(3), "base: int is no path"),  # type: ignore[arg-type]
    "open_personal": (lambda _: fewshot_lite.open_personal(b"x"), "path: bytes is no path"),  # type: ignore[arg-type]
    "read": (lambda _: PersonalModel.load(None), "path: NoneType is no path"),  # type: ignore[arg-type]
    "save": (lambda m: m.save(None), "path: NoneType is no path"),  # type: ignore[arg-type]
    "save of a base": (lambda _: tiny_model().save(None), "path: NoneType is no path"),  # type: ignore[arg-type]
    "check": (lambda _: fewshot_lite.check(None), "folder: NoneType is no path"),  # type: ignore[arg-type]
    "check_data": (lambda _: fewshot_lite.check_data(None), "root: NoneType is no path"),  # type: ignore[arg-type]
    "describe": (lambda _: fewshot_lite.describe(None), "file: NoneType is no path"),  # type: ignore[arg-type]
    "undo": (lambda _: fewshot_lite.undo(None), "path: NoneType is no path"),  # type: ignore[arg-type]
    "export": (
        lambda _: fewshot_lite.export_model(None, "x.onnx"),  # type: ignore[arg-type]
        "personal: NoneType is no path",
    ),
    "export to": (
        lambda m: fewshot_lite.export_model(m, None),  # type: ignore[arg-type]
        "output: NoneType is no path",
    ),
    "folders": (lambda _: some_folders(None), "data: NoneType is no path"),  # type: ignore[arg-type]
    "assess": (lambda _: fewshot_lite.assess(tiny_model()), "personal: MetaModel is no personal"),  # type: ignore[arg-type]
    "suggest": (
        lambda _: fewshot_lite.suggest(tiny_model(), "."),  # type: ignore[arg-type]
        "personal: MetaModel is no PersonalModel",
    ),
    "suggest pixels": (
        lambda m: fewshot_lite.suggest(m, [np.zeros((9, 9, 3), np.uint8)]),  # type: ignore[list-item]
        r"photos\[0\]: ndarray is no path",
    ),
    "add": (
        lambda _: fewshot_lite.add(None, "."),  # type: ignore[arg-type]
        "personal: NoneType is no PersonalModel",
    ),
    "remove": (
        lambda _: fewshot_lite.remove(tiny_model(), "mug"),  # type: ignore[arg-type]
        "personal: MetaModel is no PersonalModel",
    ),
    "rename": (
        lambda _: fewshot_lite.rename(None, "mug", "cup"),  # type: ignore[arg-type]
        "personal: NoneType is no PersonalModel",
    ),
    "rename what": (
        lambda m: fewshot_lite.rename(m, None, "cup"),  # type: ignore[arg-type]
        "None: the name of a class must be a text",
    ),
    "paths": (lambda m: m.probabilities(["a.jpg"]), "images: list. .* use `classify`"),  # type: ignore[arg-type]
    "one image": (
        lambda m: m.outputs(torch.zeros(3, SIZE, SIZE)),
        r"images: a tensor of shape \(3, 32, 32\)",
    ),
    "another size": (
        lambda m: m.embed(torch.zeros(1, 3, 9, 9)),
        r"images: a tensor of shape \(1, 3, 9, 9\)",
    ),
    "whole numbers": (
        lambda m: m.outputs(torch.zeros(1, 3, SIZE, SIZE, dtype=torch.int64)),
        "images: a tensor of torch.int64",
    ),
    "one number": (lambda _: tiny_model().adapt([b""], 3), "labels: 3. Give a class name"),  # type: ignore[arg-type]
    "text as a box": (lambda _: Region("a.jpg", "0,0,9,9"), "box: '0,0,9,9' is no box"),  # type: ignore[arg-type]
    "no box": (lambda _: Region("a.jpg", None), "box: None is no box"),  # type: ignore[arg-type]
    "three numbers": (lambda _: Region("a.jpg", (0, 0, 9)), "box 0,0,9: give x,y,w,h"),  # type: ignore[arg-type]
    "an empty box": (lambda _: Region("a.jpg", (0, 0, 0, 9)), "box 0,0,0,9: give x,y,w,h"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_argument_of_another_type_is_named_in_one_line(
    mistake: str, personal: PersonalModel
) -> None:
    call, message = MISTAKES[mistake]
    with pytest.raises(UsageError, match=f"^{message}") as caught:
        call(personal)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([b"mug", b"keys"] * 2, r"labels\[0\] is bytes. Give text: label.decode\(\)"),
        (np.array([b"mug", b"keys"] * 2), "is bytes. Give text"),
        ([("mug",), ("keys",)] * 2, r"labels\[0\] is a tuple"),
        ([1, "1", 2, 2], "labels of several types, among them str for '1'"),
        ([1, 1.0, 2, 2], "labels of several types, among them float for '1.0'"),
        ([" mug", "keys"] * 2, "' mug': spaces around the name of a class. Name it 'mug'"),
        (["m" * 300, "keys"] * 2, "300 bytes are too long for the name of a class"),
        (["\ud800", "keys"] * 2, "not valid Unicode"),
        (["", "keys"] * 2, "labels: a class without a name"),
        ([" \t", "keys"] * 2, r"labels: |labels\[0\] is"),
        (["keys", "mug\nred"] * 2, r"labels\[1\] is 'mug\\nred'. Take control characters"),
        (["keys", "a\0"] * 2, r"labels\[1\] is 'a\\x00'. Take control"),
        (["keys", "\x1b[2Jmug"] * 2, r"labels\[1\] is"),
        (["keys", "\u202egum"] * 2, r"labels\[1\] is"),
        (["caf\u00e9", "cafe\u0301"] * 2, "differ only in case, in spaces or in how"),
        (["tea  cup", "tea cup"] * 2, "differ only in"),
        (["tea\u00a0cup", "tea cup"] * 2, "differ only in"),
        (["Mug", "mug"] * 2, "differ only in"),
        (["mug\u200b", "mug"] * 2, "differ only in"),
        (["\u200b", "mug"] * 2, "labels: a class without a name"),
    ],
)
def test_labels_that_would_not_be_classes_of_their_own_name(
    base: MetaModel,
    personal: PersonalModel,
    photos: list[Path],
    labels: Any,
    message: str,
) -> None:
    with pytest.raises(UsageError, match=message):
        base.adapt(photos[:4], labels)
    with pytest.raises(UsageError, match=message):
        fewshot_lite.add(personal, photos[:4], labels=labels)


@pytest.mark.parametrize("name", [" metal ", "m" * 300, "unknown"])
def test_one_rule_for_the_names_of_classes(
    base: MetaModel, personal: PersonalModel, photos: list[Path], tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError) as of_rename:
        fewshot_lite.rename(personal, "mug", name)
    with pytest.raises(UsageError) as of_add:
        fewshot_lite.add(personal, photos[0], name)
    assert str(of_add.value) == str(of_rename.value)
    with pytest.raises(UsageError) as of_labels:
        base.adapt(photos[:2], [name, "keys"])
    assert str(of_labels.value) == f"labels: {of_rename.value}"
    if len(name) < 256:
        folder = draw_classes(tmp_path / "things", {"keys": 1, name: 1})
        with pytest.raises(UsageError) as of_folder:
            base.adapt(folder)
        assert str(of_folder.value) == f"{folder}: {of_rename.value}"


def test_labels_of_one_kind_are_taken_as_before(base: MetaModel, photos: list[Path]) -> None:
    for labels in ([1, 2, 1, 2], np.array([1, 2, 1, 2]), torch.tensor([1, 2, 1, 2])):
        assert base.adapt(photos[:4], labels).class_names == ("1", "2")
    assert base.adapt(photos[:4], list(torch.tensor([1, 2, 1, 2]))).class_names == ("1", "2")


#: Names that are no folder's, or another one's on some system.
ODD = ("../up", "..", ".", "a/b", "a_b", "a\\b", "CON", "x.", ".git", "thumbs.db", "lost+found")


def test_names_that_are_no_folders_come_back_from_the_folders_made_for_them(
    base: MetaModel, folder: Path, photos: list[Path], tmp_path: Path
) -> None:
    others = [draw_photo(k, Random(f"odd {k} {i}")) for k in range(len(ODD)) for i in range(2)]
    labels = [name for name in ODD for _ in range(2)]
    personal = base.adapt(others, labels)
    assert set(personal.class_names) == set(ODD)
    before = contents(tmp_path)
    sorter = Sorter(tmp_path / "sorted", personal.class_names)
    for number, (image, label) in enumerate(zip(others, labels, strict=True)):
        path = tmp_path / f"{number}.png"
        image.resize((48, 48)).save(path)
        placed = sorter.place(path, label)
        assert placed.parent.parent == tmp_path / "sorted"
        path.unlink()
    sorter.close()
    assert all(
        str(name).startswith("sorted/") for name in contents(tmp_path).keys() - before.keys()
    )
    edit = fewshot_lite.add(personal, tmp_path / "sorted")
    assert set(edit.model.class_names) == set(ODD)
    assert edit.new == ()
    assert set(edit.changes) | {twin.wanted for twin in edit.duplicates} == set(ODD)
    suggested = fewshot_lite.suggest(personal, photos)
    copy_for_sorting(suggested, personal.class_names, tmp_path / "to_sort")
    homes = [path for path in (tmp_path / "to_sort").iterdir() if path.is_dir()]
    assert {class_of_folder(home.name, personal.class_names) for home in homes} == set(ODD)
    personal.save(tmp_path / "odd.safetensors")
    assert PersonalModel.load(tmp_path / "odd.safetensors").class_names == personal.class_names
