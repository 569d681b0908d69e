"""A model that is written over can be had back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fewshot_lite
from command_line import Run, is_one_clear_line
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.personal.personal_model import PersonalModel
from fewshot_lite.personal.undo import backup_of, undo
from photos import SIZE, tiny_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "mine.safetensors"
    tiny_model().adapt(torch.rand(4, 3, SIZE, SIZE), ["keys", "keys", "mug", "mug"]).save(path)
    return path.read_bytes()


@pytest.fixture
def home(saved: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.safetensors").write_bytes(saved)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_edits_write_over_is_had_back_and_forth_again(
    run: Run, home: Path, saved: bytes
) -> None:
    assert run("rename", "mine.safetensors", "mug", "cup", "--force").code == 0
    renamed = Path("mine.safetensors").read_bytes()
    outcome = run("undo", "mine.safetensors")
    assert outcome.code == 0, outcome.err
    assert "as it was before: 4 photos of 2 classes, no longer with 'cup'." in outcome.out
    assert Path("mine.safetensors").read_bytes() == saved
    found = run("undo", "mine.safetensors", "--json").json
    assert found["classes"] == {"cup": 2, "keys": 2}
    assert found["before"] == {"keys": 2, "mug": 2}
    assert Path("mine.safetensors").read_bytes() == renamed
    assert sorted(path.name for path in home.iterdir()) == [
        ".mine.safetensors.before",
        "mine.safetensors",
    ]


def test_one_model_is_kept_and_it_can_replace_a_deleted_one(home: Path) -> None:
    model = PersonalModel.load("mine.safetensors")
    for name in ("one", "two", "three"):
        model = fewshot_lite.rename(model, model.class_names[1], name).model
        model.save("mine.safetensors", force=True)
    Path("mine.safetensors").unlink()
    undone = undo("mine.safetensors")
    assert undone.shots == {"keys": 2, "two": 2}
    assert undone.before is None
    assert not backup_of(Path("mine.safetensors")).exists()


def test_a_model_behind_a_link_is_put_back_where_it_lies(home: Path, saved: bytes) -> None:
    Path("real").mkdir()
    Path("mine.safetensors").rename("real/mine.safetensors")
    Path("mine.safetensors").symlink_to("real/mine.safetensors")
    model = PersonalModel.load("mine.safetensors")
    fewshot_lite.rename(model, "mug", "cup").model.save("mine.safetensors", force=True)
    undo("mine.safetensors")
    assert Path("mine.safetensors").is_symlink()
    assert Path("real/mine.safetensors").read_bytes() == saved


def test_nothing_to_undo_and_what_is_no_model_leave_all_as_it_is(
    run: Run, home: Path, saved: bytes
) -> None:
    is_one_clear_line(
        run("undo", "mine.safetensors"), 2, "mine.safetensors: nothing to undo.*--for"
    )
    is_one_clear_line(run("undo"), 2, "^Error: personal.safetensors: no such file")
    with pytest.raises(UsageError, match="nothing to undo"):
        undo(home)
    backup_of(Path("mine.safetensors")).write_bytes(saved[:100])
    with pytest.raises(FewshotError, match=r"\.before: no personal model, so mine"):
        undo("mine.safetensors")
    assert Path("mine.safetensors").read_bytes() == saved


def test_a_new_model_or_another_output_keeps_nothing(run: Run, home: Path) -> None:
    PersonalModel.load("mine.safetensors").save("other.safetensors", force=True)
    assert run("rename", "mine.safetensors", "mug", "cup", "-o", "less.safetensors").code == 0
    assert not list(home.glob(".*"))


def test_the_backup_of_a_model_that_was_moved_away_is_not_put_over_another(
    run: Run, home: Path, saved: bytes
) -> None:
    assert run("rename", "mine.safetensors", "mug", "cup", "--force").code == 0
    Path("mine.safetensors").rename("kept.safetensors")
    other = tiny_model().adapt(torch.rand(4, 3, SIZE, SIZE), ["a", "a", "b", "b"])
    other.save("mine.safetensors")
    written = Path("mine.safetensors").read_bytes()
    message = r"mine.safetensors: nothing to undo. \.mine.safetensors.before beside it is .*another"
    is_one_clear_line(run("undo", "mine.safetensors"), 2, message)
    assert Path("mine.safetensors").read_bytes() == written
    assert backup_of(Path("mine.safetensors")).read_bytes() == saved
    Path("kept.safetensors").replace("mine.safetensors")  # back where its backup is
    assert run("undo", "mine.safetensors").code == 0
    assert Path("mine.safetensors").read_bytes() == saved


def test_a_damaged_model_is_replaced_by_its_backup(run: Run, home: Path, saved: bytes) -> None:
    assert run("rename", "mine.safetensors", "mug", "cup", "--force").code == 0
    Path("mine.safetensors").write_bytes(Path("mine.safetensors").read_bytes()[:1000])
    assert run("undo", "mine.safetensors", "--json").json["before"] == {}
    assert Path("mine.safetensors").read_bytes() == saved
