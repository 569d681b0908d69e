"""A folder from somebody else: what the page keeps in it is data, and leads nowhere else."""

from __future__ import annotations

import errno
import os
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fewshot_lite.core.errors import FewshotError, UsageError
from fewshot_lite.serve.board import Board
from fewshot_lite.serve.resuming import KEPT, load_board
from fewshot_lite.serve.workspace import OWN, Workspace
from photos import draw_classes


@pytest.mark.parametrize("name", ["", "model.safetensors", KEPT, "lock", "removed"])
def test_links_in_place_of_its_own_files_are_refused(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    home = draw_classes(tmp_path / "things", {"mug": 1})
    path = home / OWN / name
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(mine)
    with pytest.raises(UsageError, match="a link, through which files elsewhere would change"):
        Workspace(home)
    assert not any(mine.iterdir())


@pytest.mark.parametrize("text", ["[" * 100_000, "[[]]", '[{"a": 1}, null]', '"mug"', "\xff"])
def test_notes_that_it_did_not_write_are_passed_over(tmp_path: Path, text: str) -> None:
    home = draw_classes(tmp_path / "things", {"mug": 1})
    workspace = Workspace(home)
    (workspace.own / KEPT).write_text(text, "latin-1")
    (workspace.own / "model.safetensors").write_text(text, "latin-1")
    board, learned = load_board(workspace, count(1), "cpu")
    workspace.close()
    assert [photo.kept for photo in board.photos] == [False]
    assert learned is None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_folder_that_cannot_be_written_to_is_one_line_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    home = draw_classes(tmp_path / "things", {"mug": 1})
    workspace = Workspace(home)

    def refuse(path: Any, *_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    for name in ("mkdir", "rename"):
        monkeypatch.setattr(Path, name, refuse)
    remedy = r"[(].*[)][.] Make that writable, or give another place[.]$"
    with pytest.raises(FewshotError, match=rf"cup: could not be changed {remedy}"):
        workspace.make_class("cup")
    with pytest.raises(FewshotError, match=rf"mug: could not be changed {remedy}"):
        workspace.rename_class("mug", "cup")
    workspace.close()
    with pytest.raises(UsageError, match=rf"things: cannot be worked on {remedy}"):
        Workspace(home)


@pytest.mark.parametrize(
    "name", ["a/b", "..", ".", "", " ", "CON", "con", "nul.txt", "Lpt1", "mug.", "mug...", ".git"]
)
def test_a_new_class_has_a_name_that_any_system_keeps_for_a_folder(name: str) -> None:
    with pytest.raises(UsageError, match=r"no name for a class: .*[.] Give another"):
        Board(("mug",)).check_new(name)
    Board(("mug",)).check_new("Dr. No")
