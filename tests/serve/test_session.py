"""The page's state: what is on disk, in the model and in memory go together, and undo."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fewshot_lite
from drawn import PATIENCE, base, filled, photo, photos
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.serve import edits
from fewshot_lite.serve.errors import Conflict, NotFound
from fewshot_lite.serve.learning import Learner
from fewshot_lite.serve.session import Session
from fewshot_lite.serve.uploads import Upload
from fewshot_lite.serve.workspace import OWN, Workspace
from photos import contents, draw_classes, tiny_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a session left: three classes of three photos, and their model."""
    folder = tmp_path_factory.mktemp("made")
    filled(folder).close()
    return folder


@pytest.fixture
def session(made: Path, tmp_path: Path) -> Iterator[Session]:
    session = resumed(made, tmp_path / "things")
    yield session
    session.close()


def resumed(made: Path, folder: Path) -> Session:
    """A session on a copy; photos of keys are 1 to 3, of mug 4 to 6, of pen 7 to 9."""
    shutil.copytree(made, folder)  # times and all, by which a photo is older than the model
    session = Session(Workspace(folder), base)
    agree(session)
    return session


def by_class(session: Session) -> dict[str, int]:
    return {label: len(session.board.of_class(label)) for label in session.board.classes}


def agree(session: Session) -> None:
    """Board, model and disk say the same."""
    assert session.settled(PATIENCE)
    assert session.problem is None
    board = {p.name: p.label for p in session.board.photos}
    model = session.require_model()
    assert dict(zip(model.photos, (model.class_names[k] for k in model.labels), strict=True)) == (
        board
    )
    _, files = session.workspace.scan()
    on_disk = {session.workspace.name_of(path): label for label, path in files}
    assert on_disk == {p.name: p.label for p in session.board.photos if p.path}
    for p in session.board.photos:
        assert session.thumbnail(p.number).startswith(b"\xff\xd8")


def test_there_is_a_model_as_soon_as_two_classes_have_a_photo(tmp_path: Path) -> None:
    session = Session(Workspace(tmp_path), base)
    session.edit(edits.create_class, "mug")
    session.add_photos("mug", photos(0, 2))
    assert session.settled(PATIENCE)
    with pytest.raises(Conflict, match="two classes"):
        session.require_model()
    session.edit(edits.create_class, "keys")
    session.add_photos("keys", photos(1, 1))
    agree(session)
    session.close()


def test_the_head_is_what_adding_and_removing_by_command_gives(session: Session) -> None:
    before = session.require_model()
    new = photo(1, 9)
    session.add_photos("keys", [new])
    gone = session.board.of_class("pen")[0]
    session.edit(edits.remove_photos, [gone.number])
    agree(session)
    (path,) = [p.path for p in session.board.photos if p.name not in before.photos]
    assert path is not None
    assert path.read_bytes() == new.data
    by_command = fewshot_lite.add(before, path, "keys").model
    by_command = fewshot_lite.remove(by_command, photos=[gone.name]).model
    names = [photo.path for photo in session.board.photos if photo.path]
    for ours, theirs in zip(
        session.require_model().classify(names), by_command.classify(names), strict=True
    ):
        assert dict(ours.labels) == pytest.approx(dict(theirs.labels), abs=1e-5)
        assert ours.strangeness == pytest.approx(theirs.strangeness, rel=1e-4)


def test_adapting_to_all_is_what_adapting_to_the_folder_gives(session: Session) -> None:
    session.adapt()
    agree(session)
    by_command = base().adapt(session.workspace.root)
    model = session.require_model()
    assert model.photos == by_command.photos
    names = [photo.path for photo in session.board.photos if photo.path]
    assert [dict(p.labels) for p in model.classify(names)] == [
        dict(p.labels) for p in by_command.classify(names)
    ]


EDITS = [
    (edits.create_class, ("cup",), {"keys": 3, "mug": 3, "pen": 3, "cup": 0}),
    (edits.rename_class, ("mug", "Mug"), {"keys": 3, "Mug": 3, "pen": 3}),
    (edits.rename_class, ("mug", "<b>ü & 'x'"), {"keys": 3, "<b>ü & 'x'": 3, "pen": 3}),
    (edits.merge_classes, ("mug", "pen"), {"keys": 3, "pen": 6}),
    (edits.remove_class, ("mug",), {"keys": 3, "pen": 3}),
    (edits.move_photos, ([4, 5], "pen"), {"keys": 3, "mug": 1, "pen": 5}),
    (edits.remove_photos, ([1, 4],), {"keys": 2, "mug": 2, "pen": 3}),
    (edits.keep_photos, ([1],), {"keys": 3, "mug": 3, "pen": 3}),
]


def undone(session: Session, edit: Any, arguments: Any, left: dict[str, int]) -> None:
    """An edit, and then everything as it was before it."""
    board, learned = session.board, session.learned
    root = session.workspace.root
    before = {k: v for k, v in contents(root).items() if not k.startswith(OWN)}
    session.edit(edit, *arguments)
    assert by_class(session) == left
    agree(session)
    session.undo()
    agree(session)
    assert (session.board, session.learned) == (board, learned)
    assert {k: v for k, v in contents(root).items() if not k.startswith(OWN)} == before


@pytest.mark.parametrize(("edit", "arguments", "left"), EDITS)
def test_every_edit_is_undone_to_the_byte(
    session: Session, edit: Any, arguments: Any, left: dict[str, int]
) -> None:
    undone(session, edit, arguments, left)


@pytest.mark.slow
@pytest.mark.parametrize(("edit", "arguments", "left"), EDITS)
def test_so_it_is_with_photos_that_a_model_knows_without_their_files(
    made: Path, tmp_path: Path, edit: Any, arguments: Any, left: dict[str, int]
) -> None:
    session = Session(Workspace(tmp_path), base)
    session.open_model(made / OWN / "model.safetensors")
    agree(session)
    with pytest.raises(FewshotError, match="without its photos"):
        Learner(tmp_path, base).adapt(session.board)
    labels = {1: "keys", 4: "mug", 5: "mug"}
    numbers = {n: session.board.of_class(label)[n // 5].number for n, label in labels.items()}
    arguments = [[numbers[n] for n in a] if isinstance(a, list) else a for a in arguments]
    undone(session, edit, arguments, left)
    session.edit(edit, *arguments)
    agree(session)
    session.close()
    again = Session(Workspace(tmp_path), base)
    assert by_class(again) == left
    agree(again)
    again.close()


def test_a_new_start_finds_everything_as_it_was(session: Session) -> None:
    session.edit(edits.rename_class, "mug", "cup")
    session.edit(edits.keep_photos, [5])
    session.edit(edits.create_class, "empty")
    agree(session)
    names, root = {p.name for p in session.board.photos}, session.workspace.root
    session.close()

    def never() -> MetaModel:
        raise AssertionError("adapted anew")

    draw_classes(root, {"by hand": 1}, seed=7)  # by another program, meanwhile
    again = Session(Workspace(root), never)
    agree(again)
    assert {p.name for p in again.board.photos} == names | {"by hand/00.png"}
    assert by_class(again) == {"by hand": 1, "cup": 3, "empty": 0, "keys": 3, "pen": 3}
    assert sum(p.kept for p in again.board.photos) == 1
    again.close()


def files_of(session: Session) -> dict[str, bytes | None]:
    found = contents(session.workspace.root).items()
    return {name: data for name, data in found if not name.startswith(OWN)}


@pytest.mark.slow
def test_what_can_be_undone_outlives_the_program(session: Session) -> None:
    root = session.workspace.root
    before, shots = files_of(session), by_class(session)
    states = []
    for edit, arguments in (
        (edits.rename_class, ("mug", "cup")),
        (edits.move_photos, ([4, 5], "pen")),
        (edits.keep_photos, ([1],)),
        (edits.remove_photos, ([2],)),
        (edits.merge_classes, ("pen", "keys")),
        (edits.create_class, ("empty",)),
    ):
        states.append((files_of(session), by_class(session)))
        session.edit(edit, *arguments)
    session.add_photos("empty", [photo(1, 77)])
    session.adapt()
    agree(session)
    session.close()
    for _ in range(2):  # and again after some are taken back
        session = Session(Workspace(root), base)
        for _ in range(3):
            session.undo()
        agree(session)
        session.close()
    session = Session(Workspace(root), base)
    assert (files_of(session), by_class(session)) == states[1]
    assert session.last_step == "Renamed mug to cup"
    session.undo()
    assert (files_of(session), by_class(session)) == (before, shots)
    agree(session)
    assert session.last_step == "Added 3 photos to pen"  # of the start before
    session.close()


@pytest.mark.parametrize("place", ["../outside.txt", "/etc/hosts", "mug/../../outside.txt", 5, ""])
def test_an_undo_of_somebody_elses_touches_nothing_elsewhere(
    made: Path, tmp_path: Path, place: object
) -> None:
    (tmp_path / "outside.txt").write_text("mine")
    shutil.copytree(made, tmp_path / "things")
    steps = [{"what": "Added a photo", "moves": [[None, place]], "kept": []}]
    (tmp_path / "things" / OWN / "undo.json").write_text(json.dumps(steps))
    session = Session(Workspace(tmp_path / "things"), base)
    assert session.last_step is None
    session.close()
    assert (tmp_path / "outside.txt").read_text() == "mine"


def test_photos_that_come_one_by_one_are_one_step(session: Session) -> None:
    for upload in photos(0, 6):
        session.add_photos("mug", [upload])
    assert session.last_step == "Added 3 photos to mug"  # the others were there
    session.undo()
    assert by_class(session)["mug"] == 3
    agree(session)


def test_what_cannot_be_is_one_line_and_changes_nothing(session: Session, tmp_path: Path) -> None:
    root = session.workspace.root
    before, board = contents(root), session.board
    added = session.add_photos("mug", [Upload("x.jpg", b"no photo"), Upload("y", b""), photo(0, 0)])
    assert [item.problem for item in added] == [
        "not an image, or badly damaged",
        "empty file (0 bytes)",
        "it is there already, in 'mug'",
    ]
    for edit, arguments, kind in (
        (edits.create_class, ("keys",), UsageError),
        (edits.create_class, ("../up",), UsageError),
        (edits.create_class, (".hidden",), UsageError),
        (edits.create_class, ("KEYS",), UsageError),
        (edits.create_class, ("unknown",), UsageError),
        (edits.create_class, ("a\nb",), UsageError),
        (edits.create_class, ("a\\b",), UsageError),
        (edits.create_class, ("x" * 300,), UsageError),
        (edits.rename_class, ("mug", "pen"), UsageError),
        (edits.rename_class, ("nobody", "a"), NotFound),
        (edits.merge_classes, ("mug", "mug"), UsageError),
        (edits.remove_photos, ([999],), NotFound),
    ):
        with pytest.raises(kind):
            session.edit(edit, *arguments)  # type: ignore[arg-type]
    assert session.board is board
    assert contents(root) == before
    with pytest.raises(UsageError, match="another"):
        Workspace(root)
    with pytest.raises(Conflict, match="photos here already"):
        session.open_model(session.workspace.model_file)
    with pytest.raises(FewshotError, match="two classes"):
        Session(Workspace(tmp_path / "other"), base).adapt()


def test_an_edit_that_fails_half_way_is_taken_back(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = session.workspace.root
    before = contents(root)
    rename, calls = Path.rename, []

    def failing(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(FewshotError, match="no space left"):
        session.edit(edits.merge_classes, "mug", "pen")
    assert contents(root) == before
    agree(session)


@pytest.mark.slow
def test_refining_can_be_undone_and_gives_way_to_new_photos(tmp_path: Path) -> None:
    session = Session(Workspace(tmp_path), lambda: tiny_model("resnet18"))
    for number, label in enumerate(("mug", "keys")):
        session.edit(edits.create_class, label)
        session.add_photos(label, photos(number, 3))
    agree(session)
    session.adapt("on")
    agree(session)
    assert session.require_model().adapted_by_gradient
    session.edit(edits.rename_class, "mug", "cup")
    agree(session)
    assert session.require_model().adapted_by_gradient
    session.add_photos("cup", [photo(0, 8)])
    agree(session)
    assert not session.require_model().adapted_by_gradient
    for _ in range(3):
        session.undo()
    agree(session)
    assert session.board.classes == ("mug", "keys")
    assert not session.require_model().adapted_by_gradient
    session.close()
