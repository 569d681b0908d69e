"""A personal model is the adapted network, in one file that needs nothing else."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_lite.core import checkpoint
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.heads.base import Head
from fewshot_lite.learners import Learner, ProtoNets
from fewshot_lite.networks.backbone import Backbone
from fewshot_lite.networks.film import folded
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.prediction import Prediction
from photos import SIZE, contents, draw_classes, tiny_model
from tiny import personal_of

NAMES = ("remote control", "Schlüssel", "🍏 apple", "[red]x")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shots = dict(zip(NAMES, (3, 1, 2, 2), strict=True))
    return draw_classes(tmp_path_factory.mktemp("things"), shots)


@pytest.fixture(scope="module")
def personal(folder: Path) -> PersonalModel:
    return tiny_model().adapt(folder)


@pytest.fixture(scope="module")
def saved(personal: PersonalModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return personal.save(tmp_path_factory.mktemp("personal") / "mine.safetensors")


def photos(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


def folded_and_functional(
    learner: Learner, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the same queries from the personal model and from the adapted learner."""
    learner.to(dtype)
    support, queries = torch.rand(7, 3, SIZE, SIZE, dtype=dtype), torch.rand(5, 3, SIZE, SIZE)
    labels = torch.tensor([0, 1, 2, 0, 1, 0, 2])
    classifier = learner.adapt(support, labels, 3)
    personal = personal_of(
        folded(learner.backbone, classifier.parameters),
        copy.deepcopy(learner.head),
        classifier.support_features,
        labels,
        ("a", "b", "c"),
        SIZE,
        {},
    )
    queries = queries.to(dtype)
    logits = personal.head.logits(personal._statistics, personal.backbone(queries))
    return logits, classifier.logits(queries)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5"])
def test_the_folded_network_is_the_functional_one(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    folded, functional = folded_and_functional(tiny_model(name).learner, dtype)
    assert folded.shape == (5, 3)
    assert functional.abs().max() > 1e-3
    torch.testing.assert_close(folded, functional, rtol=tolerance, atol=tolerance)


def test_a_learner_without_film_folds_too() -> None:
    learner = ProtoNets(Backbone("shufflenet_v2_x0_5", SIZE))
    folded, functional = folded_and_functional(learner, torch.float64)
    torch.testing.assert_close(folded, functional, rtol=1e-10, atol=1e-10)


def test_adapting_changed_the_network(personal: PersonalModel) -> None:
    base = tiny_model().learner.backbone.state_dict()
    changed = [k for k, v in personal.backbone.state_dict().items() if not torch.equal(v, base[k])]
    norms = personal.backbone.norm_layers()
    assert {key.rpartition(".")[0] for key in changed} == set(norms)


def test_probabilities_are_probabilities(personal: PersonalModel) -> None:
    for images in (torch.rand(5, 3, SIZE, SIZE), torch.zeros(5, 3, SIZE, SIZE, dtype=torch.uint8)):
        found = personal.probabilities(images, micro_batch=2)
        assert found.shape == (5, 4)
        assert bool((found >= 0).all())
        torch.testing.assert_close(found.sum(1), torch.ones(5))


def test_saved_and_loaded_it_gives_the_same_answers(
    personal: PersonalModel, saved: Path, folder: Path
) -> None:
    loaded = PersonalModel.load(saved)
    assert loaded.class_names == personal.class_names == tuple(sorted(NAMES))
    assert loaded.provenance == personal.provenance
    assert loaded.image_size == SIZE
    assert loaded.adaptation is None
    assert loaded.classify(photos(folder)) == personal.classify(photos(folder))
    images = torch.rand(3, 3, SIZE, SIZE)
    assert torch.equal(loaded.probabilities(images), personal.probabilities(images))


def test_saved_again_it_is_the_same_file(saved: Path, tmp_path: Path) -> None:
    again = PersonalModel.load(saved).save(tmp_path / "again.safetensors")
    assert again.read_bytes() == saved.read_bytes()


def test_a_file_of_before_strangers_were_told_gives_the_same_answers(
    personal: PersonalModel, saved: Path, folder: Path, tmp_path: Path
) -> None:
    old = PersonalModel.load(changed(saved, tmp_path / "old", {"support.left_out": None}, {}))
    assert old.classify(photos(folder)) == personal.classify(photos(folder))


def test_how_strange_its_photos_are_is_in_the_file(
    saved: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Head, "leave_one_out_logits", None)  # would be called anew
    assert PersonalModel.load(saved).classify(photos(folder)[0]).strangeness is not None


def test_strangers_are_unknown(personal: PersonalModel, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("text")
    paths = [*photos(folder), tmp_path / "text.jpg"]
    named = personal.classify(paths, reject=None)
    assert not any(answer.unknown for answer in named)
    strangeness = [answer.strangeness for answer in named[:-1]]
    assert named[-1].strangeness is None
    middle = sorted(s for s in strangeness if s is not None)[3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PersonalModel, "threshold", lambda self, reject: middle)
        answers = personal.classify(paths)
    for answer, before in zip(answers[:-1], named, strict=False):
        assert answer.strangeness == before.strangeness
        assert answer.strangeness is not None
        assert answer.unknown == (answer.strangeness > middle)
        assert answer.labels == before.labels
        assert answer.label == ("unknown" if answer.unknown else before.label)
        assert answer.probability == (None if answer.unknown else before.probability)
    assert sum(answer.unknown for answer in answers) == 4
    assert (answers[-1].unknown, answers[-1].label) == (False, None)


def test_a_share_that_is_none_is_refused(personal: PersonalModel, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"--reject 5: .* from 0 to below 1"):
        personal.classify(photos(folder)[0], reject=5)
    with pytest.raises(UsageError, match="--reject"):
        list(personal.classify_stream([], reject=-0.1))


def test_outputs_are_one_row_an_image(personal: PersonalModel) -> None:
    images = torch.rand(5, 3, SIZE, SIZE)
    outputs = personal.outputs(images, micro_batch=2)
    assert torch.equal(outputs.probabilities, personal.probabilities(images, micro_batch=2))
    assert (outputs.strangeness.shape, outputs.strangeness.dtype) == ((5,), torch.float32)


@pytest.mark.slow
def test_it_needs_nothing_but_its_file(folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.safetensors"
    tiny_model().save(base, half=True)
    personal = MetaModel.load(base).adapt(folder)
    path = personal.save(tmp_path / "mine.safetensors")
    assert path.stat().st_size < base.stat().st_size  # half precision is kept
    base.unlink()
    assert PersonalModel.load(path).classify(photos(folder)) == personal.classify(photos(folder))


def test_answers_name_the_class_and_the_runners_up(personal: PersonalModel, folder: Path) -> None:
    photo = photos(folder)[0]
    answer = personal.classify(photo, top=2)
    assert isinstance(answer, Prediction)
    assert (answer.path, answer.problem) == (photo, None)
    (name, first), (_, second) = answer.labels
    assert answer.label == name
    assert answer.probability == first >= second
    assert personal.classify(str(photo), top=2) == answer
    for top, expected in ((1, 1), (4, 4), (1000, 4)):
        labels = personal.classify(photo, top=top).labels
        assert len(labels) == expected
        assert {label for label, _ in labels} <= set(NAMES)
    assert sum(p for _, p in personal.classify(photo, top=4).labels) == pytest.approx(1)


def test_what_cannot_be_read_keeps_its_place(
    personal: PersonalModel, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("text")
    (tmp_path / "empty.png").write_bytes(b"")
    good = photos(folder)[0]
    paths = [tmp_path / "text.jpg", good, tmp_path / "missing.jpg", tmp_path / "empty.png", good]
    for batch in (1, 2, 64):
        answers = list(personal.classify_stream(paths, batch=batch))
        assert [answer.path for answer in answers] == paths
        assert [answer.problem for answer in answers] == [
            "not an image, or badly damaged",
            None,
            "no such file",
            "empty file (0 bytes)",
            None,
        ]
        assert [bool(answer.labels) for answer in answers] == [False, True, False, False, True]
        assert answers[0].label is None
        assert answers[0].probability is None
        assert dict(answers[1].labels) == pytest.approx(dict(answers[4].labels), abs=1e-5)


def test_nothing_to_classify(personal: PersonalModel) -> None:
    assert personal.classify([]) == []


def test_an_answer_does_not_depend_on_the_other_photos(
    personal: PersonalModel, folder: Path
) -> None:
    together = personal.classify(photos(folder), top=4)
    for photo, answer in zip(photos(folder), together, strict=True):
        assert dict(personal.classify(photo, top=4).labels) == pytest.approx(
            dict(answer.labels), abs=1e-5
        )


def test_an_output_that_exists_needs_force(personal: PersonalModel, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UsageError, match=r"exists already.*--force"):
        personal.save(tmp_path / "mine")
    assert contents(tmp_path) == {"mine": b"precious"}
    personal.save(str(tmp_path / "mine"), force=True)
    assert PersonalModel.load(tmp_path / "mine").class_names == personal.class_names
    assert set(contents(tmp_path)) == {"mine", ".mine.before"}
    assert (tmp_path / ".mine.before").read_text() == "precious"


def test_a_folder_that_does_not_exist_is_named(personal: PersonalModel, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        personal.save(tmp_path / "nowhere" / "mine")


def test_no_model_here_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"no personal\.safetensors here.*fewshot-lite adapt"):
        PersonalModel.load()
    with pytest.raises(UsageError, match=r"--model other\.safetensors: no such file"):
        PersonalModel.load("other.safetensors")


def test_other_kinds_of_files_are_told_apart(saved: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.safetensors"
    tiny_model().save(base)
    with pytest.raises(UsageError, match=r"--model .*a meta-trained model; a personal model"):
        PersonalModel.load(base)
    with pytest.raises(UsageError, match=r"--base .*a personal model.*; a meta-trained model"):
        MetaModel.load(saved)
    (tmp_path / "random").write_bytes(bytes(range(256)) * 10)
    for load in (PersonalModel.load, MetaModel.load):
        with pytest.raises(FewshotError, match="not a safetensors file"):
            load(tmp_path / "random")
        with pytest.raises(UsageError, match="a folder, not a file"):
            load(tmp_path)


def changed(
    saved: Path, path: Path, tensors: dict[str, torch.Tensor | None], meta: dict[str, Any]
) -> Path:
    """The same file with other tensors and entries; None takes one out."""
    file = checkpoint.load(saved, "personal")
    kept = {k: v for k, v in (file.tensors | tensors).items() if v is not None}
    entries = {k: v for k, v in (file.meta | meta).items() if v is not None}
    checkpoint.save(
        path, "personal", kept, {k: v for k, v in entries.items() if k not in ("format", "kind")}
    )
    return path


@pytest.mark.parametrize(
    ("tensors", "meta", "message"),
    [
        ({"support.features": None}, {}, r"'support\.features' is missing"),
        ({"support.labels": None}, {}, r"'support\.labels' is missing"),
        ({"head.head.heads.0.log_beta": None}, {}, "log_beta"),
        ({"head.head.heads.0.log_beta": torch.tensor(800.0)}, {}, "log_beta of the head is"),
        ({"head.factor": torch.tensor(torch.inf)}, {}, "factor of the head is not finite"),
        ({"network.conv1.0.weight": None}, {}, r"conv1\.0\.weight"),
        ({"network.conv1.0.weight": torch.zeros(2, 2)}, {}, r"conv1\.0\.weight"),
        ({"support.features": torch.zeros(8, 3)}, {}, "another shape"),
        ({"support.labels": torch.zeros(3, dtype=torch.int64)}, {}, "do not fit"),
        ({"support.labels": torch.full((8,), 9)}, {}, "damaged"),
        ({"support.labels": torch.full((8,), -1)}, {}, "damaged"),
        ({"support.labels": torch.rand(8)}, {}, "damaged"),
        ({"support.features": torch.full((8, 1024), float("nan"))}, {}, "damaged"),
        ({"support.left_out": torch.zeros(3)}, {}, r"support\.left_out has another shape"),
        ({"support.left_out": torch.zeros(8, dtype=torch.int64)}, {}, "another shape or type"),
        ({"support.left_out": torch.full((8,), float("nan"))}, {}, "left_out is not finite"),
        ({}, {"class_names": ["a", "b", "c"]}, "damaged"),
        ({}, {"class_names": ["a", "b", "c", "d", "e"]}, "damaged"),
        ({}, {"class_names": 4}, "damaged"),
        ({}, {"class_names": None}, "'class_names' is missing"),
        ({}, {"head": {"name": "none such"}}, "no head 'none such'"),
        ({}, {"head": "mahalanobis"}, "damaged"),
        ({}, {"head": None}, "'head' is missing"),
        ({}, {"backbone": "resnet18"}, "damaged"),
        ({}, {"backbone": "nonsense"}, "no such network"),
        ({}, {"image_size": "large"}, "damaged"),
        ({}, {"provenance": None}, "'provenance' is missing"),
        ({}, {"provenance": [1]}, "provenance is no object"),
        ({}, {"image_size": 10**400}, "damaged"),
    ],
)
def test_what_does_not_belong_together_is_one_clear_line(
    saved: Path, tmp_path: Path, tensors: dict[str, Any], meta: dict[str, Any], message: str
) -> None:
    path = changed(saved, tmp_path / "changed.safetensors", tensors, meta)
    with pytest.raises(FewshotError, match=message) as caught:
        PersonalModel.load(path)
    assert str(caught.value).startswith(f"--model {path}: damaged (")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_one_clear_line(saved: Path, tmp_path: Path, share: float) -> None:
    data = saved.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(FewshotError, match=r"truncated or damaged|not a safetensors file"):
        PersonalModel.load(path)


@pytest.mark.slow
def test_a_personal_model_needs_no_learner() -> None:
    code = (
        "import sys, fewshot_lite.personal.personal_model;"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('fewshot_lite.')};"
        "sys.exit(bool(rooms & {'learners', 'lite', 'maml', 'training', 'evaluation', 'data'}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
