"""The page's state: what is on disk, in the model and in memory go together, and undo."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

import fewshot_lite
from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.personal.meta_model import MetaModel
from fewshot_lite.serve import edits
from fewshot_lite.serve.board import NotFound
from fewshot_lite.serve.session import Conflict, Session
from fewshot_lite.serve.uploads import Upload
from fewshot_lite.serve.workspace import Workspace
from photos import contents, draw_classes, draw_photo, tiny_model

BASE = tiny_model()


def photo(number: int, seed: int) -> Upload:
    buffer = io.BytesIO()
    draw_photo(number, Random(f"{number}/{seed}")).save(buffer, "PNG")
    return Upload(f"{seed}.png", buffer.getvalue())


def photos(number: int, count: int) -> list[Upload]:
    return [photo(number, seed) for seed in range(count)]


def base() -> MetaModel:
    return BASE


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = Session(Workspace(tmp_path), base)
    yield session
    session.close()


def filled(session: Session) -> Session:
    for number, label in enumerate(("mug", "keys", "pen")):
        session.edit(edits.create_class, label)
        session.add_photos(label, photos(number, 3))
    assert session.settled(60)
    return session


def by_class(session: Session) -> dict[str, int]:
    return {label: len(session.board.of_class(label)) for label in session.board.classes}


def agree(session: Session) -> None:
    """Board, model and disk say the same."""
    assert session.settled(60)
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


def test_there_is_a_model_as_soon_as_two_classes_have_a_photo(session: Session) -> None:
    session.edit(edits.create_class, "mug")
    session.add_photos("mug", photos(0, 2))
    assert session.settled(60)
    with pytest.raises(Conflict, match="two classes"):
        session.require_model()
    session.edit(edits.create_class, "keys")
    session.add_photos("keys", photos(1, 1))
    agree(session)


def test_the_head_is_what_adding_and_removing_by_command_gives(session: Session) -> None:
    filled(session)
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
    filled(session)
    session.adapt()
    agree(session)
    by_command = BASE.adapt(session.workspace.root)
    model = session.require_model()
    assert model.photos == by_command.photos
    names = [photo.path for photo in session.board.photos if photo.path]
    assert [dict(p.labels) for p in model.classify(names)] == [
        dict(p.labels) for p in by_command.classify(names)
    ]


@pytest.mark.parametrize(
    ("edit", "arguments", "left"),
    [
        (edits.create_class, ("cup",), {"mug": 3, "keys": 3, "pen": 3, "cup": 0}),
        (edits.rename_class, ("mug", "Mug"), {"Mug": 3, "keys": 3, "pen": 3}),
        (edits.rename_class, ("mug", "<b>ü & 'x'"), {"<b>ü & 'x'": 3, "keys": 3, "pen": 3}),
        (edits.merge_classes, ("mug", "pen"), {"keys": 3, "pen": 6}),
        (edits.remove_class, ("mug",), {"keys": 3, "pen": 3}),
        (edits.move_photos, ([1, 2], "pen"), {"mug": 1, "keys": 3, "pen": 5}),
        (edits.remove_photos, ([1, 4],), {"mug": 2, "keys": 2, "pen": 3}),
        (edits.keep_photos, ([1],), {"mug": 3, "keys": 3, "pen": 3}),
    ],
)
@pytest.mark.parametrize("with_files", [True, False])
def test_every_edit_is_undone_to_the_byte(
    tmp_path: Path, edit: object, arguments: tuple[object, ...], left: object, with_files: bool
) -> None:
    session = filled(Session(Workspace(tmp_path / "a"), base))
    if not with_files:  # the same classes and photos, out of a model
        file = session.require_model().save(tmp_path / "m.safetensors")
        session.close()
        session = Session(Workspace(tmp_path / "b"), base)
        session.open_model(file)
        by_name = sorted(session.board.photos, key=lambda p: p.number)
        arguments = tuple(
            [by_name[n - 1].number for n in a] if isinstance(a, list) else a for a in arguments
        )
        session.settled(60)
    board, learned = session.board, session.learned
    files = {k: v for k, v in contents(session.workspace.root).items() if "/" not in k[:14]}
    session.edit(edit, *arguments)  # type: ignore[arg-type]
    if with_files:
        assert by_class(session) == left
    agree(session)
    session.undo()
    agree(session)
    assert session.board == board
    assert session.learned is learned
    assert files == {k: v for k, v in contents(session.workspace.root).items() if k in files}
    session.close()


def test_a_new_start_finds_everything_as_it_was(tmp_path: Path) -> None:
    session = filled(Session(Workspace(tmp_path), base))
    session.edit(edits.rename_class, "mug", "cup")
    session.edit(edits.keep_photos, [5])
    session.edit(edits.create_class, "empty")
    agree(session)
    names, model = {p.name for p in session.board.photos}, session.require_model()
    session.close()

    def never() -> MetaModel:
        raise AssertionError("adapted anew")

    draw_classes(tmp_path, {"by hand": 1}, seed=7)  # by another program, meanwhile
    again = Session(Workspace(tmp_path), never)
    agree(again)
    assert {p.name for p in again.board.photos} == names | {"by hand/00.png"}
    assert again.board.classes == ("by hand", "cup", "empty", "keys", "pen")
    assert sum(p.kept for p in again.board.photos) == 1
    assert again.require_model().backbone.state_dict().keys() == model.backbone.state_dict().keys()
    again.close()


def test_photos_that_come_one_by_one_are_one_step(session: Session) -> None:
    filled(session)
    for upload in photos(0, 6):
        session.add_photos("mug", [upload])
    assert session.last_step == "Added 3 photos to mug"  # three were there
    session.undo()
    assert by_class(session)["mug"] == 3
    agree(session)


def test_what_cannot_be_is_one_line_and_changes_nothing(session: Session, tmp_path: Path) -> None:
    filled(session)
    before, board = contents(tmp_path), session.board
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
    assert contents(tmp_path) == before
    with pytest.raises(UsageError, match="another"):
        Workspace(tmp_path)
    with pytest.raises(Conflict, match="photos here already"):
        session.open_model(session.workspace.model_file)
    with pytest.raises(FewshotError, match="two classes"):
        Session(Workspace(tmp_path / "other"), base).adapt()


def test_an_edit_that_fails_half_way_is_taken_back(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(session)
    before = contents(tmp_path)
    rename, calls = Path.rename, []

    def failing(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(FewshotError, match="no space left"):
        session.edit(edits.merge_classes, "mug", "pen")
    assert contents(tmp_path) == before
    agree(session)


def test_refining_reports_can_be_undone_and_gives_way_to_new_photos(session: Session) -> None:
    filled(session)
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
    assert session.board.classes == ("mug", "keys", "pen")
