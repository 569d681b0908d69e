"""A folder from somebody else: what the page keeps in it is data, and leads nowhere else."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from fewshot_lite.core.errors import UsageError
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
