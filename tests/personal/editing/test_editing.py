"""Edits equal adapting the head anew on all photos, whatever their order and split."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.data.store import decode
from fewshot_lite.heads.base import Head, SupportSet
from fewshot_lite.heads.calibrated import CalibratedHead
from fewshot_lite.heads.choice import choose_head
from fewshot_lite.heads.generated import GeneratedLinearHead
from fewshot_lite.heads.mahalanobis import MahalanobisHead
from fewshot_lite.heads.mean import MeanHead
from fewshot_lite.heads.prototypes import PrototypeHead
from fewshot_lite.heads.ridge import RidgeHead
from fewshot_lite.images.folders import scan_classes
from fewshot_lite.personal import embedding
from fewshot_lite.personal.editing import (
    Edit,
    add,
    add_features,
    adding,
    film_share,
    remove,
    rename,
    worth_readapting,
)
from fewshot_lite.personal.personal_model import PersonalModel
from photos import SIZE, draw_classes, tiny_model
from tiny import TinyBackbone, personal_of

WIDTH = 24
HEADS: dict[str, Callable[[], Head]] = {
    "mahalanobis": lambda: MahalanobisHead(),
    "mahalanobis, root": lambda: MahalanobisHead(root=True),
    "euclidean": lambda: PrototypeHead("euclidean"),
    "cosine": lambda: PrototypeHead("cosine"),
    "generated": lambda: GeneratedLinearHead(WIDTH),
    "ridge": lambda: RidgeHead(),
    "mean": lambda: MeanHead([MahalanobisHead(root=True), RidgeHead(), PrototypeHead("cosine")]),
}


def random_features(classes: int, seed: int = 0) -> tuple[Tensor, list[str], list[str]]:
    """Features (N, d), class names and photo names; 1 to 6 photos of each class."""
    rng, generator = Random(seed), torch.Generator().manual_seed(seed)
    labels = [f"thing {k:03d}" for k in range(classes) for _ in range(rng.randint(1, 6))]
    centres = torch.rand(classes, WIDTH, generator=generator)
    numbers = torch.tensor([int(label[-3:]) for label in labels])
    features = centres[numbers] + 0.3 * torch.rand(len(labels), WIDTH, generator=generator)
    return features, labels, [f"{label}/{i}.png" for i, label in enumerate(labels)]


def model_of(head: Head, features: Tensor, labels: list[str], photos: list[str]) -> PersonalModel:
    """The head fitted on these photos at once, as `MetaModel.adapt` puts a model together."""
    names = tuple(sorted(set(labels)))
    numbers = torch.tensor([names.index(label) for label in labels])
    return personal_of(
        TinyBackbone(WIDTH), head, features, numbers, names, 16, {"base": {}}, tuple(photos)
    )


def part(
    head: Head, everything: tuple[Tensor, list[str], list[str]], indices: list[int]
) -> PersonalModel:
    features, labels, photos = everything
    return model_of(
        head, features[indices], [labels[i] for i in indices], [photos[i] for i in indices]
    )


def added(
    personal: PersonalModel, everything: tuple[Tensor, list[str], list[str]], indices: list[int]
) -> PersonalModel:
    features, labels, photos = everything
    chosen = [labels[i] for i in indices], [photos[i] for i in indices]
    return add_features(personal, features[indices], *chosen).model


def assert_same(found: PersonalModel, expected: PersonalModel) -> None:
    assert found.class_names == expected.class_names
    queries = torch.rand(16, WIDTH)
    with torch.no_grad():
        logits = [m.head.logits(m._statistics, queries) for m in (found, expected)]
    assert float(logits[1].std()) > 0.01
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-5)
    by_name = [
        sorted(zip(m.photos, m.labels.tolist(), m.features.tolist(), strict=True))
        for m in (found, expected)
    ]
    assert by_name[0] == by_name[1]


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("head", HEADS)
def test_any_adds_and_removes_equal_fitting_the_head_on_what_is_left(
    head: str, classes: int
) -> None:
    everything = random_features(classes)
    labels = everything[1]
    for seed in range(2):
        rng, the_head = Random(seed), HEADS[head]()
        order = list(range(len(labels)))
        rng.shuffle(order)
        # Begin with two classes at least, add the rest in pieces, whatever classes they are of.
        first = [*{labels[i]: i for i in order}.values()][:2]
        rest = [i for i in order if i not in first]
        cuts = sorted({0, len(rest), *(rng.randint(0, len(rest)) for _ in range(3))})
        personal, here = part(the_head, everything, first), list(first)
        for start, end in pairwise(cuts):
            personal = added(personal, everything, rest[start:end])
            here += rest[start:end]
            names = sorted({labels[i] for i in here})
            gone = rng.sample(names, min(len(names) - 2, rng.randint(0, 3)))
            if gone:
                personal = remove(personal, gone).model
                here = [i for i in here if labels[i] not in gone]
            assert_same(personal, part(the_head, everything, sorted(here)))


def test_one_class_may_be_named_without_a_list() -> None:
    everything = random_features(3)
    personal = part(MahalanobisHead(), everything, list(range(len(everything[1]))))
    name = personal.class_names[0]
    assert remove(personal, name).model.class_names == personal.class_names[1:]


def test_what_was_added_and_removed_again_leaves_no_trace_in_the_answers() -> None:
    everything = random_features(6)
    labels = everything[1]
    old = [i for i, label in enumerate(labels) if label < "thing 004"]
    before = part(MahalanobisHead(), everything, old)
    after = added(before, everything, [i for i in range(len(labels)) if i not in old])
    assert len(after.class_names) == 6
    assert_same(remove(after, ["thing 005", "thing 004"]).model, before)
    assert len(before.class_names) == 4  # the model itself is not changed


def test_single_photos_can_be_taken_out() -> None:
    everything = random_features(4)
    personal = part(MahalanobisHead(), everything, list(range(len(everything[1]))))
    many = [p for p in personal.photos if p.startswith(everything[1][0])]
    assert len(many) > 2
    edit = remove(personal, photos=many[:2])
    kept = [i for i, photo in enumerate(everything[2]) if photo not in many[:2]]
    assert_same(edit.model, part(MahalanobisHead(), everything, kept))
    assert edit.changes == {everything[1][0]: -2}
    with pytest.raises(FewshotError, match=r"no photo of it would be left.*name it itself"):
        remove(personal, photos=many)
    with pytest.raises(UsageError, match=f"no photo of this name. Is it '{many[0]}'"):
        remove(personal, photos=[many[0][:-1]])


def test_a_renamed_class_gives_the_same_answers_under_its_new_name() -> None:
    everything = random_features(3)
    personal = part(MahalanobisHead(), everything, list(range(len(everything[1]))))
    edit = rename(personal, "thing 000", "zebra")
    assert edit.model.class_names == ("thing 001", "thing 002", "zebra")
    assert edit.renamed == {"thing 000": "zebra"}
    assert edit.model.photos == personal.photos
    queries = torch.rand(5, WIDTH)
    with torch.no_grad():
        old, new = (m.head.logits(m._statistics, queries) for m in (personal, edit.model))
    torch.testing.assert_close(new, old[:, [1, 2, 0]], rtol=1e-5, atol=1e-5)
    assert rename(edit.model, "zebra", "ZEBRA").model.class_names[0] == "ZEBRA"


def test_photos_that_are_there_already_are_named_and_not_added() -> None:
    everything = random_features(3)
    features, labels, photos = everything
    personal = part(MahalanobisHead(), everything, list(range(len(labels) - 1)))
    again = features[[0, -1, -1]] * (1 + 1e-6)
    edit = add_features(personal, again, [labels[-1]] * 3, ["x/0", "x/1", "x/2"])
    assert [(d.path, d.photo, d.label) for d in edit.duplicates] == [
        ("x/0", photos[0], labels[0]),
        ("x/2", "x/1", labels[-1]),  # of those that come along
    ]
    assert edit.changes == {labels[-1]: 1}
    assert len(edit.model.labels) == len(labels)
    with pytest.raises(FewshotError, match="the photo is in the model already, x/0 as"):
        add_features(edit.model, features[:1], [labels[0]], ["x/0"])
    with pytest.raises(
        FewshotError, match=f"'new': has no photo of its own: a is '{labels[0]}/0.png"
    ):
        add_features(personal, features[[0, -1]], ["new", labels[-1]], ["a", "b"])


def test_other_photos_of_the_same_file_name_are_told_apart() -> None:
    everything = random_features(3)
    personal = part(MahalanobisHead(), everything, list(range(len(everything[1]))))
    name = personal.photos[0]
    edit = add_features(personal, torch.rand(2, WIDTH), ["thing 000"] * 2, [name, name])
    assert edit.model.photos[-2:] == (f"{name} (2)", f"{name} (3)")
    assert_same(remove(edit.model, photos=[f"{name} (2)", f"{name} (3)"]).model, personal)


def test_a_model_that_does_not_know_its_photos_names_gets_some() -> None:
    features, labels, _ = random_features(2)
    personal = model_of(PrototypeHead(), features, labels, [])
    assert remove(personal, photos=["thing 000/#1"]).model.photos == ()
    edit = add_features(personal, torch.rand(1, WIDTH), ["thing 000"], ["thing 000/a.png"])
    assert edit.model.photos[0] == "thing 000/#1"
    assert len(set(edit.model.photos)) == len(labels) + 1


def test_it_knows_what_film_was_made_from_and_what_was_done() -> None:
    features, labels, photos = random_features(8)
    old = [i for i, label in enumerate(labels) if label < "thing 004"]
    new = [i for i in range(len(labels)) if i not in old]
    personal = part(PrototypeHead(), (features, labels, photos), old)
    assert film_share(personal) == 1
    personal = added(personal, (features, labels, photos), new)
    assert film_share(personal) == len(old) / len(labels)
    personal = remove(personal, ["thing 000", "thing 007"]).model
    left = [label for label in labels if label not in ("thing 000", "thing 007")]
    assert film_share(personal) == sum(label < "thing 004" for label in left) / len(left)
    personal = remove(personal, ["thing 001", "thing 002"]).model
    assert worth_readapting(personal) == (film_share(personal) < 0.5)
    personal = remove(personal, ["thing 003"]).model
    assert film_share(personal) == 0
    assert worth_readapting(personal)
    assert personal.provenance["film"] == {"made_from": len(old), "still_here": 0}
    kinds = [next(k for k in edit if k != "date") for edit in personal.provenance["edits"]]
    assert kinds == ["add", "remove", "remove", "remove"]


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"head": {"temperature_factor": 0.0}},
        {"head": 3},
        {"film": 3, "edits": "x"},
        {"film": {"still_here": "x"}},
        {"base": None},
    ],
)
def test_a_record_of_something_else_does_no_harm(record: dict[str, object]) -> None:
    features, labels, photos = random_features(3)
    personal = model_of(PrototypeHead(), features, labels, photos)
    personal.provenance = record
    assert film_share(personal) == 1
    assert not worth_readapting(personal)
    edit = remove(personal, ["thing 000"])
    assert len(edit.model.provenance["edits"]) == 1


def test_the_history_stays_short() -> None:
    personal = model_of(PrototypeHead(), *random_features(2))
    for i in range(60):
        personal = rename(personal, personal.class_names[0], f"name {i}").model
    assert len(personal.provenance["edits"]) == 50
    assert personal.provenance["edits"][-1]["rename"] == {"name 58": "name 59"}


@pytest.mark.parametrize(
    ("photos", "message"),
    [([], "photos: none were given"), ([b"bytes"], "photos: with paths a name will do")],
)
def test_what_cannot_be_added_under_a_name(photos: list[bytes], message: str) -> None:
    personal = model_of(PrototypeHead(), *random_features(2))
    with pytest.raises(FewshotError, match=message):
        add(personal, photos, "new")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(bad: float) -> None:
    personal = model_of(PrototypeHead(), *random_features(2))
    with pytest.raises(FewshotError, match="not finite"):
        add_features(personal, torch.full((1, WIDTH), bad), ["new"], ["new/0"])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["thing 00"], r"no class of this name\. Is it 'thing 00\d'"),
        (["car"], "no class of this name. It has 'thing 000', 'thing 001', 'thing 002'"),
        (["thing 000", "thing 001"], "only 'thing 002' left.*nothing to tell apart"),
        (["thing 000", "thing 001", "thing 002"], "no class left"),
        ([], "--photo"),
    ],
)
def test_what_cannot_be_removed(classes: list[str], message: str) -> None:
    personal = model_of(PrototypeHead(), *random_features(3))
    with pytest.raises(FewshotError, match=message):
        remove(personal, classes)


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("thing 001", "a class of this name already"),
        ("thing 000", "this name already"),
        ("THING 001", "differ only in case"),
        ("", "no name for a class"),
        (" ", "no name for a class"),
        ("..", "no name for a class"),
        ("a/b", "no name for a class"),
        ("a\0", "no name for a class"),
        ("\udcff", "not valid Unicode"),
    ],
)
def test_what_a_class_cannot_be_called(new: str, message: str) -> None:
    personal = model_of(PrototypeHead(), *random_features(3))
    with pytest.raises(UsageError, match=message):
        rename(personal, "thing 000", new)


def test_accents_stored_apart_from_their_letters_are_the_same_name() -> None:
    features, labels, photos = random_features(2)
    labels = [label.replace("thing 000", "caf\u00e9") for label in labels]
    personal = model_of(PrototypeHead(), features, labels, photos)
    with pytest.raises(UsageError, match="how their letters are stored"):
        rename(personal, "thing 001", "cafe\u0301")


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shots = {"mug": 3, "keys": 2, "pen": 4, "cup": 1}
    return draw_classes(tmp_path_factory.mktemp("things"), shots)


def only(things: Path, folder: Path, names: dict[str, range]) -> Path:
    """A copy of some photos of some classes."""
    for name, numbers in names.items():
        (folder / name).mkdir(parents=True)
        for i in numbers:
            (folder / name / f"{i:02d}.png").write_bytes(
                (things / name / f"{i:02d}.png").read_bytes()
            )
    return folder


def test_photos_from_disk_give_what_the_adapted_network_sees(things: Path, tmp_path: Path) -> None:
    first = only(things, tmp_path / "first", {"mug": range(2), "keys": range(2)})
    second = only(
        things, tmp_path / "second", {"mug": range(2, 3), "pen": range(4), "cup": range(1)}
    )
    personal = tiny_model().adapt(first, views=1)
    assert isinstance(personal.head, CalibratedHead)
    personal.head.factor *= 3.0  # as if the first photos had asked for another
    seen: list[tuple[int, int]] = []
    edit = add(personal, second, on_done=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (6, 6)
    assert (edit.changes, edit.new) == ({"mug": 1, "pen": 4, "cup": 1}, ("cup", "pen"))
    assert edit.model.photos == (
        "keys/00.png", "keys/01.png", "mug/00.png", "mug/01.png",
        "cup/00.png", "mug/02.png", *(f"pen/{i:02d}.png" for i in range(4)),
    )  # fmt: skip
    everything = embedded(personal, things, edit)
    queries = torch.rand(6, 3, SIZE, SIZE)
    torch.testing.assert_close(
        edit.model.probabilities(queries), everything.probabilities(queries), rtol=1e-5, atol=1e-5
    )
    back = PersonalModel.load(edit.model.save(tmp_path / "mine"))
    assert torch.equal(back.probabilities(queries), edit.model.probabilities(queries))
    assert back.provenance == edit.model.provenance


def embedded(personal: PersonalModel, things: Path, edit: Edit) -> PersonalModel:
    """The base's head adapted to the whole folder at once, seen by the network as it is."""
    folder = scan_classes(things)
    images, _ = decode(folder.paths, SIZE)
    assert folder.class_names == edit.model.class_names
    labels, own = torch.tensor(folder.labels), tiny_model().learner.head
    features = personal.backbone(images)
    choice = choose_head("default", own, SupportSet(features, labels, len(folder.class_names)))
    record = edit.model.provenance["head"]
    assert record["temperature_factor"] == pytest.approx(choice.factor)
    return personal_of(
        personal.backbone, choice.head, features, labels, folder.class_names, SIZE, {}
    )


def test_many_photos_come_in_pieces(
    things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = only(things, tmp_path / "first", {"mug": range(2), "keys": range(2)})
    (things / "keys" / "text.png").write_text("text")
    try:
        personal = tiny_model().adapt(first)
        whole = add(personal, things)
        for module in (adding, embedding):
            monkeypatch.setattr(module, "_CHUNK", 2)
        pieces = add(personal, things)
    finally:
        (things / "keys" / "text.png").unlink()
    assert whole.model.photos == pieces.model.photos
    assert whole.duplicates == pieces.duplicates
    assert len(whole.duplicates) == 4
    assert whole.skipped == pieces.skipped
    assert [item.path.name for item in whole.skipped] == ["text.png"]
    torch.testing.assert_close(whole.model.features, pieces.model.features, rtol=1e-5, atol=1e-5)
