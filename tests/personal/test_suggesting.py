"""The photos that are asked for are doubtful, unlike one another and unlike what is known."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import fewshot_lite
from command_line import Run, is_one_clear_line
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.images.inputs import as_sources
from fewshot_lite.personal.bulk import find_photos
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.suggesting import choose, suggest
from photos import draw_classes, tiny_model


@pytest.fixture(scope="module")
def personal(tmp_path_factory: pytest.TempPathFactory) -> PersonalModel:
    folder = draw_classes(tmp_path_factory.mktemp("known") / "things", {"keys": 3, "mug": 3})
    return tiny_model().adapt(folder)


@pytest.fixture
def home(personal: PersonalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    personal.save("personal.safetensors")
    draw_classes(tmp_path / "new", {"a": 4, "b": 4, "c": 4}, seed=1)
    (tmp_path / "new" / "bad.png").write_bytes(b"text")
    (tmp_path / "new" / "note.txt").write_bytes(b"text")
    return tmp_path


def around(angle: float, number: int) -> Tensor:
    turns = torch.tensor([angle + 0.001 * i for i in range(number)])
    return torch.stack([turns.cos(), turns.sin()], dim=1)


def test_one_of_each_doubtful_kind_is_asked_for_before_copies_of_it() -> None:
    features = torch.cat([around(1.0, 5), around(2.0, 5), around(3.0, 5)])
    probabilities = torch.full((15, 2), 0.5)
    chosen = choose(around(0, 3), features, probabilities, 3)
    assert {row // 5 for row in chosen} == {0, 1, 2}
    assert len(set(choose(around(0, 3), features, probabilities, 99))) == 15


def test_doubt_decides_among_what_lies_alike() -> None:
    features = torch.cat([around(1.0, 5), around(-1.0, 5)])
    probabilities = torch.tensor([[0.95, 0.05]] * 5 + [[0.55, 0.45]] * 5)
    assert choose(around(0, 3), features, probabilities, 1)[0] >= 5


def test_suggestions_tell_the_file_and_what_it_may_be(personal: PersonalModel, home: Path) -> None:
    found = suggest(personal, find_photos([Path("new")]), 5)
    assert found.looked_at == 12
    assert [(str(s.path), s.reason) for s in found.skipped] == [
        ("new/bad.png", "not an image, or badly damaged")
    ]
    assert len({item.path for item in found.photos}) == 5
    for item in found.photos:
        assert item.path is not None
        answer = personal.classify(item.path)
        assert item.label == answer.label
        assert item.nearest == answer.labels[0][0]
        assert item.probability == pytest.approx(answer.labels[0][1], abs=1e-4)
        assert item.margin == pytest.approx(answer.labels[0][1] - answer.labels[1][1], abs=1e-4)
    again = suggest(personal, find_photos([Path("new")]), 5)
    assert again == found
    assert suggest(personal, "new", 5) == found
    files = [str(path) for path in sorted(Path("new").rglob("*.png"))]
    assert suggest(personal, files, 5).photos[0].path == found.photos[0].path
    assert fewshot_lite.suggest is suggest


def test_photos_that_the_model_was_adapted_to_are_passed_over(run: Run, home: Path) -> None:
    draw_classes(home / "things", {"keys": 3, "mug": 3})
    outcome = run("suggest", "things", "new", "-n", 99, "--json")
    assert (outcome.json["looked_at"], outcome.json["adapted_to"]) == (12, 6)
    assert {Path(item["path"]).parts[0] for item in outcome.json["photos"]} == {"new"}
    assert "adapted to 6 more" in run("suggest", "things", "new").err
    is_one_clear_line(run("suggest", "things"), 1, "The model has all 6 photos")


def test_photos_in_memory_are_told_by_their_place(personal: PersonalModel) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 30, 30, 3), np.uint8)
    found = suggest(personal, as_sources([b"text", *noise]), 9)
    assert sorted(item.index for item in found.photos) == [1, 2, 3, 4]
    assert str(found.skipped[0].path) == "photos[0]"


def test_the_command_lists_and_copies_for_sorting(run: Run, home: Path) -> None:
    outcome = run("suggest", "new", "-n", 3, "--json")
    assert outcome.code == 0, outcome.err
    listed = [item["path"] for item in outcome.json["photos"]]
    assert len(listed) == 3
    assert outcome.json["looked_at"] == 12
    text = run("suggest", "new", "-n", 3, "--copy-into", "to sort")
    assert [line.partition(": ")[0] for line in text.out.splitlines()[:3]] == listed
    names = sorted(path.name for path in Path("to sort").iterdir())
    assert names == [f"{k:03d} {Path(p).name}" for k, p in enumerate(listed, 1)] + ["keys", "mug"]
    for path in Path("to sort").glob("00[12]*"):
        path.rename(path.parent / "keys" / path.name)
    added = run("add", "personal.safetensors", "to sort", "--force", "--json")
    assert added.code == 0, added.err
    assert added.json["classes"]["keys"] == 5


def test_copies_in_folders_of_other_names_are_added_to_their_classes(run: Run, home: Path) -> None:
    drawn = sorted(draw_classes(home / "known", {"keys": 3, "mug": 3}).rglob("*.png"))
    labels = [f"{photo.parent.name}/o" for photo in drawn]  # as a table may name classes
    personal = tiny_model().adapt(drawn, labels)
    personal.save("odd.safetensors")
    assert run("suggest", "new", "-n", 2, "-m", "odd.safetensors", "--copy-into", "sort").code == 0
    assert {path.name for path in Path("sort").iterdir() if path.is_dir()} == {"keys_o", "mug_o"}
    for photo in Path("sort").glob("001*"):
        photo.rename(Path("sort", "mug_o", photo.name))
    added = run("add", "odd.safetensors", "sort", "-o", "more.safetensors", "--json")
    assert added.json["classes"] == {"keys/o": 3, "mug/o": 4}
    assert "mug/o/001" in PersonalModel.load("more.safetensors").photos[-1]
    again = next(Path("sort").glob("002*"))
    words = ("add", "odd.safetensors", again, "--class", "mug/o", "-o", "again.safetensors")
    assert run(*words).code == 0


def test_copies_of_photos_with_long_names(run: Run, home: Path) -> None:
    photo = next(Path("new").rglob("*.png"))
    photo.rename(photo.with_name("x" * 250 + ".png"))
    assert run("suggest", "new", "-n", 20, "--copy-into", "sort").code == 0
    assert len([path for path in Path("sort").iterdir() if path.is_file()]) == 12


def test_a_folder_of_copies_appears_when_it_is_complete(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(Path().iterdir())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    outcome = run("suggest", "new", "--copy-into", "sort")
    is_one_clear_line(outcome, 1, "--copy-into sort: could not be written .no space left on device")
    assert sorted(Path().iterdir()) == before


def test_bad_input_is_one_clear_line(run: Run, home: Path) -> None:
    is_one_clear_line(run("suggest", "none"), 2, "none: no such file or folder")
    is_one_clear_line(run("suggest", "new", "-m", "no.safetensors"), 2, "no.safetensors: no such")
    is_one_clear_line(run("suggest", "new", "--copy-into", "new"), 2, "new: exists already")
    is_one_clear_line(run("suggest", "new", "--copy-into", "x/y"), 2, "x/y: there is no folder")
    none = r"No photo to choose from could be read \(new/note.txt: not an image"
    is_one_clear_line(run("suggest", "new/note.txt"), 1, none)
    is_one_clear_line(run("suggest", "new", "-n", 0), 2, "must be at least 1")


def test_what_cannot_be_asked_for(personal: PersonalModel) -> None:
    with pytest.raises(UsageError, match=r"^top 0: give 1 or more"):
        personal.classify(b"text", top=0)
    with pytest.raises(UsageError, match="--number 0: at least 1"):
        suggest(personal, [], 0)
    with pytest.raises(FewshotError, match="No photo"):
        suggest(personal, [])
