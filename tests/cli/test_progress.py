"""What bars show: each part of the work by its name, with totals where they are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clips import draw_clips
from command_line import Run
from fewshot_lite.cli.render import terminal
from photos import draw_classes, tiny_model

Told = dict[str, tuple[int, int | None]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """By what was done, the last that a bar was told of it."""
    found: Told = {}

    @contextmanager
    def counting_bar(description: str) -> Iterator[Callable[..., None]]:
        def update(done: int, total: int | None, what: str = description) -> None:
            found[what] = (done, total)

        yield update

    monkeypatch.setattr(terminal, "counting_bar", counting_bar)
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny_model().save(tmp_path / "base.safetensors")
    draw_classes(tmp_path / "things", {"keys": 3, "mug": 3})
    return tmp_path


def test_adapt_add_and_suggest_show_all_of_their_work(run: Run, home: Path, told: Told) -> None:
    assert run("adapt", "things", "--base", "base.safetensors").code == 0
    assert told["Reading photos"] == (6, 6)
    assert told["Embedding"][1] == 6
    assert told["Fitting"] == (0, None)
    assert "Leaving photos out" in told
    told.clear()
    draw_classes(home / "more", {"pen": 2}, seed=3)
    assert run("add", "personal.safetensors", "more", "--force").code == 0
    assert told == {"Reading photos": (2, 2), "Embedding": (2, 2)}
    told.clear()
    draw_classes(home / "new", {"pen": 2}, seed=4)
    assert run("suggest", "new", "-n", "1").code == 0
    assert told == {"Reading photos": (2, 2)}
    told.clear()
    assert run("check", "things").code == 0
    assert told == {"Reading photos": (6, 6)}


def test_videos_are_counted(run: Run, home: Path, told: Told) -> None:
    pytest.importorskip("av")
    draw_clips(home / "films", {"keys": 1, "mug": 2})
    assert run("adapt", "films", "--base", "base.safetensors").code == 0
    assert told["Reading videos"] == (3, 3)
    told.clear()
    assert run("check", "films").code == 0
    assert told["Reading videos"] == (3, 3)
