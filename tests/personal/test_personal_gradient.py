"""Personal models of bases that adapt by gradient: made, judged, kept, shown, exported, edited."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gradient_models import gradient_model

from command_line import Run
from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.heads.adapted import AdaptedHead
from fewshot_lite.maml.gradient_learner import GradientLearner
from fewshot_lite.personal.editing import add, add_features, remove, rename
from fewshot_lite.personal.export.writing import export_model
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.quality import assess
from fewshot_lite.personal.report.reasons import left_out_answers
from photos import SIZE, contents, draw_classes

pytestmark = pytest.mark.slow


SHOTS = {"keys": 6, "mug": 1, "pen": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_classes(tmp_path_factory.mktemp("things"), SHOTS)


@pytest.fixture(scope="module")
def personal(folder: Path) -> PersonalModel:
    return gradient_model().adapt(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "maml.safetensors"
    gradient_model("maml").save(path)
    return path


@pytest.mark.parametrize(
    ("learner", "backbone", "options"),
    [
        ("maml", "conv4", {}),
        ("fomaml", "conv4", {"statistics": "running", "pattern": "00011"}),
        ("imaml", "conv4", {"inner_head": "learned", "way": 3}),
        ("fomaml", "resnet18", {"statistics": "running", "inner_steps": 1}),
    ],
)
def test_any_base_makes_a_model_that_comes_back_from_its_file(
    folder: Path, tmp_path: Path, learner: str, backbone: str, options: dict[str, Any]
) -> None:
    personal = gradient_model(learner, backbone, **options).adapt(folder)
    assert personal.class_names == tuple(SHOTS)
    saved = personal.save(tmp_path / "mine.safetensors")
    loaded = PersonalModel.load(saved)
    images = torch.rand(4, 3, SIZE, SIZE)
    torch.testing.assert_close(loaded.probabilities(images), personal.probabilities(images))
    paths = sorted(folder.rglob("*.png"))
    for before, after in zip(personal.classify(paths), loaded.classify(paths), strict=True):
        assert before.strangeness == pytest.approx(after.strangeness, rel=1e-4)
        assert before.label == after.label
    assert assess(loaded) == assess(personal)
    assert assess(loaded).anew
    assert torch.equal(
        loaded.leave_one_out_logits().isnan().any(1),
        torch.tensor([False] * 6 + [True] + [False] * 3),
    )
    assert loaded.threshold(0.05) == personal.threshold(0.05) < float("inf")
    again = loaded.save(tmp_path / "again.safetensors")
    assert again.read_bytes() == saved.read_bytes()


def test_labels_without_meaning_are_told_as_such() -> None:
    """What the adapted features say of their own photos is that all is well."""
    model = gradient_model(inner_steps=20, inner_lr=0.01, statistics="running")
    images = torch.rand(24, 3, SIZE, SIZE)
    labels = [f"class {i % 3}" for i in range(24)]
    personal = model.adapt(images, labels)
    fitted = personal.outputs_of(personal.features).probabilities.argmax(1)
    assert (fitted == personal.labels).float().mean() > 0.95
    quality = assess(personal)
    assert quality.photos == 24
    assert quality.right < 15
    assert quality.accuracy is not None
    assert quality.accuracy < 0.75
    # The threshold is that of photos not adapted to, which are farther away.
    own = personal.novelty.strangeness(personal.features)
    assert np.median(personal.support_strangeness) > own.median()


def test_the_temperature_is_of_photos_left_out(personal: PersonalModel, folder: Path) -> None:
    head = personal.head
    assert isinstance(head, AdaptedHead)
    record = personal.provenance["head"]
    assert (record["used"], record["asked"]) == ("adapted", "default")
    assert float(head.log_temperature.exp()) == pytest.approx(record["temperature_factor"])
    assert record["temperature_factor"] != 1


def test_classes_of_one_photo_alone_tell_nothing(tmp_path: Path) -> None:
    personal = gradient_model().adapt(draw_classes(tmp_path / "f", {"a": 1, "b": 1, "c": 1}))
    assert personal.provenance["head"]["temperature_factor"] == 1
    assert assess(personal).accuracy is None
    assert personal.threshold(0.05) == float("inf")
    loaded = PersonalModel.load(personal.save(tmp_path / "mine.safetensors"))
    assert left_out_answers(loaded) == [None, None, None]


@pytest.mark.parametrize("name", ["ridge", "auto"])
def test_another_head_is_refused_before_anything_is_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: Any
) -> None:
    monkeypatch.setattr("fewshot_lite.personal.support.find_labelled", None)
    with pytest.raises(UsageError, match=rf"--head {name}: must be left out with a base"):
        gradient_model().adapt(folder, head=name)


def test_a_head_for_another_number_of_classes_is_refused_before_photos_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = gradient_model(inner_head="learned", way=5)
    monkeypatch.setattr("fewshot_lite.personal.support.decode_pixels", None)
    with pytest.raises(UsageError, match=r"things\d*: 3 classes, .* learned for 5. Give 5, or"):
        model.adapt(folder)
    with pytest.raises(UsageError, match="labels: 2 classes"):
        model.adapt(torch.rand(2, 3, SIZE, SIZE), ["a", "b"])


@pytest.mark.parametrize("pattern", ["00000", "00001"])
def test_a_bad_start_is_not_divergence(pattern: str) -> None:
    model = gradient_model(pattern=pattern, inner_lr=1e-9)
    with torch.no_grad():  # far too sure before any step
        model.learner.head.log_temperature.fill_(8.0)
    noise = torch.rand(12, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    labels = ["a", "b", "c"] * 4
    assert model.learner.start_logits(noise, torch.arange(12) % 3, 3).abs().max() > 100
    assert model.adapt(noise, labels).class_names == ("a", "b", "c")


@pytest.mark.parametrize("statistics", ["support", "running"])
@pytest.mark.parametrize("rate", [1e3, 1e30])
def test_steps_that_diverge_are_told(folder: Path, statistics: str, rate: float) -> None:
    model = gradient_model(inner_lr=rate, statistics=statistics)
    with pytest.raises(FewshotError, match=r"diverged.* --inner-lr"):
        model.adapt(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"support.left_out_logits": None}, "left_out_logits"),
        ({"support.left_out": None}, "left_out"),
        ({"support.left_out_logits": lambda x: x[:, :2]}, "another shape"),
        ({"support.left_out_logits": lambda x: x.double()}, "another shape or type"),
        ({"support.left_out_logits": torch.zeros_like}, "not finite"),
        ({"support.left_out_logits": lambda x: x * torch.nan}, "not finite"),
        ({"head.weight": lambda x: x * torch.nan}, "head"),
        ({"head.bias": lambda x: x[:2]}, "head.bias|bias"),
    ],
)
def test_a_damaged_file_is_refused(
    personal: PersonalModel,
    tmp_path: Path,
    change: dict[str, Callable[[torch.Tensor], torch.Tensor] | None],
    message: str,
) -> None:
    path = personal.save(tmp_path / "mine.safetensors")
    file = checkpoint.load(path, "personal")
    tensors = dict(file.tensors)
    for name, function in change.items():
        tensor = tensors.pop(name)
        if function is not None:
            tensors[name] = function(tensor)
    meta = {k: v for k, v in file.meta.items() if k not in ("format", "kind")}
    checkpoint.save(path, "personal", tensors, meta)
    with pytest.raises(FewshotError, match=rf"damaged \(.*({message})"):
        PersonalModel.load(path)


def test_photos_cannot_come_and_go(personal: PersonalModel, folder: Path) -> None:
    message = "MODEL: was made by gradient steps .* Adapt anew .* its base was tiny"
    edits: list[Callable[[], object]] = [
        lambda: add(personal, folder),
        lambda: add_features(personal, personal.features[:1], ["keys"], ["keys/new.png"]),
        lambda: remove(personal, ["keys"]),
        lambda: remove(personal, photos=["keys/00.png"]),
    ]
    for edit in edits:
        with pytest.raises(UsageError, match=message):
            edit()


def test_the_command_names_the_file_whose_photos_cannot_change(
    personal: PersonalModel, tmp_path: Path, run: Run
) -> None:
    path = personal.save(tmp_path / "mine.safetensors")
    outcome = run("remove", path, "keys", "--force")
    assert outcome.code == 2
    assert f"{path}: was made by gradient steps" in outcome.err


def test_a_renamed_class_keeps_its_answers_wherever_it_comes_to_stand(
    personal: PersonalModel, tmp_path: Path
) -> None:
    edit = rename(personal, "keys", "zebra")
    assert edit.model.class_names == ("mug", "pen", "zebra")
    renamed = PersonalModel.load(edit.model.save(tmp_path / "mine.safetensors"))
    images = torch.rand(5, 3, SIZE, SIZE)
    expected = personal.probabilities(images)[:, [1, 2, 0]]
    torch.testing.assert_close(renamed.probabilities(images), expected)
    assert renamed.threshold(0.05) == personal.threshold(0.05)
    before, after = assess(personal), assess(renamed)
    assert (after.right, after.accuracy) == (before.right, before.accuracy)
    numbers = {0: 2, 1: 0, 2: 1, None: None}
    assert left_out_answers(renamed) == [numbers[k] for k in left_out_answers(personal)]
    assert renamed.provenance["edits"][0]["rename"] == {"keys": "zebra"}
    back = rename(edit.model, "zebra", "keys").model
    assert torch.equal(
        back.leave_one_out_logits().nan_to_num(), personal.leave_one_out_logits().nan_to_num()
    )


def test_the_whole_way_on_the_command_line(
    run: Run, folder: Path, base: Path, tmp_path: Path
) -> None:
    model, page = tmp_path / "mine.safetensors", tmp_path / "page.html"
    made = run("adapt", folder, "--base", base, "-o", model, "--report", page, "--json")
    assert made.code == 0, made.err
    assert made.json["quality"]["anew"] is True
    assert made.json["head"]["used"] == "adapted"
    assert made.json["classes"] == SHOTS
    assert "adapted anew" in page.read_text(encoding="utf-8")
    text = run("adapt", folder, "--base", base, "-o", model, "--force")
    assert "by adapting anew without a quarter of 9 photos" in " ".join(text.out.split())
    named = run(
        "classify", folder, "--model", model, "--json", "--report", tmp_path / "answers.html"
    )
    assert named.code == 0, named.err
    assert len(named.json) == 10
    assert "keys/00.png" in (tmp_path / "answers.html").read_text(encoding="utf-8")
    renamed = run("rename", model, "keys", "Keys", "--force", "--json")
    assert (renamed.code, renamed.json["renamed"]) == (0, {"keys": "Keys"})
    before = contents(tmp_path)
    for words in (["add", model, folder], ["remove", model, "pen"]):
        refused = run(*words, "--force")
        assert refused.code == 2
        assert "Adapt anew" in refused.err
        assert len(refused.err.strip().splitlines()) == 1
    assert contents(tmp_path) == before


def test_bad_input_on_the_command_line_writes_nothing(
    run: Run, folder: Path, base: Path, tmp_path: Path
) -> None:
    gradient_model(inner_lr=1e30).save(tmp_path / "wild.safetensors")
    gradient_model(inner_head="learned", way=7).save(tmp_path / "seven.safetensors")
    before = contents(tmp_path)
    output = tmp_path / "mine.safetensors"
    for source, more, code, message in (
        (base, ("--head", "ridge"), 2, "--head ridge"),
        (tmp_path / "wild.safetensors", (), 1, "--inner-lr"),
        (tmp_path / "seven.safetensors", (), 2, "3 classes"),
    ):
        refused = run("adapt", folder, "--base", source, "-o", output, *more)
        assert (refused.code, refused.out) == (code, "")
        assert message in refused.err
        assert len(refused.err.strip().splitlines()) == 1
    assert contents(tmp_path) == before


def test_a_loaded_base_is_the_one_that_was_saved(folder: Path, base: Path) -> None:
    loaded = MetaModel.load(base)
    assert isinstance(loaded.learner, GradientLearner)
    images = torch.rand(2, 3, SIZE, SIZE)
    torch.testing.assert_close(
        loaded.adapt(folder).probabilities(images),
        gradient_model("maml").adapt(folder).probabilities(images),
    )


@pytest.mark.parametrize("format", [pytest.param("onnx", marks=pytest.mark.slow), "torch-export"])
def test_exported_it_answers_alike(personal: PersonalModel, tmp_path: Path, format: str) -> None:
    """Also before it went through a file, while its layers are those of the base."""
    if format == "onnx":
        pytest.importorskip("onnxscript")
    path = tmp_path / ("mine.onnx" if format == "onnx" else "mine.pt2")
    exported = export_model(personal, path, format=format)
    assert exported.class_names == personal.class_names
    assert exported.parity.probability < 1e-4
