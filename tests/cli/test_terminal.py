"""What is printed on a terminal of 80 columns, and how options are described."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import typer.main
from rich.console import Console

from fewshot_lite.cli.app import app
from fewshot_lite.cli.commands import COMMANDS
from fewshot_lite.cli.render import terminal as render
from fewshot_lite.images.folders import Skipped
from fewshot_lite.personal.support import Support


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    console = Console(file=stream, width=80, soft_wrap=True, highlight=False)
    monkeypatch.setattr(render, "out", console)
    return stream


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "data"])
def test_options_are_described_in_sentences(command: str) -> None:
    found = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    for described in (found.help, *(getattr(p, "help", None) for p in found.params)):
        assert described
        described, _, default = described.partition(" [dim]\\[default: ")
        assert not default or default.endswith("][/dim]")
        assert described[0].isupper()
        assert described.endswith(".")
        assert not described.startswith(("What ", "Of ", "How "))
        assert "default:" not in described  # which would be printed as markup: that is, not at all


def test_cells_break_at_words_and_long_lists_are_cut(screen: io.StringIO) -> None:
    names = [f"thing-{k}" for k in range(100)]
    meta = {"kind": "personal", "class_names": names, "shots": [5] * 100}
    render.print_info(meta, Path("mine.safetensors"), 1_000_000)
    lines = screen.getvalue().splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines)
    words = screen.getvalue().split()
    assert "thing-29" in words
    assert "thing-30" not in words
    assert "… and 70 more" in " ".join(words)


def test_figures_of_several_sets_are_told_in_words(screen: io.StringIO) -> None:
    meta = {"kind": "meta", "figures": {"validation": {"clothes": 0.25, "mean": 0.5}}}
    render.print_info(meta, Path("model.safetensors"), 1_000_000)
    assert "validation  clothes 0.25, mean 0.5\n" in screen.getvalue().replace(" \n", "\n")


def test_a_table_of_many_classes_is_cut(screen: io.StringIO) -> None:
    names = tuple(f"c{k:03d}" for k in range(110))
    labels = tuple(k for k in range(110) for _ in range(5))
    skipped = tuple(Skipped(Path(names[-1]) / name, "empty") for name in ("a.png", "b.png"))
    adaptation = Support(np.empty(0, np.uint8), labels, names, skipped=skipped, seconds=1.0)
    render.print_adaptation(adaptation, "m")
    lines = screen.getvalue().splitlines()
    assert lines[1 + render.MOST_ROWS].split() == ["…", "and", "70", "more", "350", "2"]
    assert "Adapted to 550 photos of 110 classes" in lines[-1]
